"""Charts of the page, by plotly."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from .classification import ClassificationAnalysis
from .detection import SCORE, DetectionAnalysis
from .runs import RunLog, curve_names
from .segmentation import SegmentationAnalysis

GREY = '#8a8f98'
"""Colour of text and axes, legible on white and on black."""
GRID = 'rgba(138,143,152,0.25)'
COLOURS = (
    *('#3b7ddd', '#e4572e', '#2a9d5c', '#b35fc9', '#d99a00', '#1ba3b8'),
    *('#d6408f', '#7a6ff0', '#8a8a2b', '#9c6b4e'),
)
DASHES = ('solid', 'dot', 'dash', 'dashdot')
POINTS = 1000
"""Most points of a curve."""
MANY = 60
"""Most classes of a confusion matrix; the most confused ones are kept."""


def draw_curves(runs: Sequence[RunLog]) -> list[tuple[str, str]]:
    """Return titles and charts of logged values, the runs on one axis."""
    import plotly.graph_objects as go

    named = [curve_names(run) for run in runs]
    charts = []
    for title in named[0]:
        figure = go.Figure()
        for number, (run, names) in enumerate(zip(runs, named)):
            lines = run.scores if title == 'Scores' else run.training
            unit = 'step' if title == 'Scores' else 'iter'
            for i, name in enumerate(names[title]):
                points = [x for x in lines if name in x and unit in x]
                if not points:
                    continue
                points = points[:: max(1, len(points) // POINTS)]
                label = f'{run.name}: {name}' if len(runs) > 1 else name
                figure.add_scatter(
                    x=[point[unit] for point in points],
                    y=[point[name] for point in points],
                    name=escape(label),
                    mode='lines+markers' if len(points) < 40 else 'lines',
                    line=dict(
                        color=COLOURS[i % len(COLOURS)],
                        dash=DASHES[number % len(DASHES)],
                    ),
                    visible=True if i < 8 else 'legendonly',
                )
        if not figure.data:
            continue
        first = runs[0].total[0]
        axis = first if title == 'Scores' else 'iteration'
        charts.append((title, _finish(figure, axis, '')))
    return charts


def draw_detection_charts(
    analysis: DetectionAnalysis,
) -> list[tuple[str, str]]:
    """Return titles and charts of a detector."""
    import plotly.graph_objects as go

    charts = []
    recall = np.linspace(0, 1, analysis.curves.shape[1])
    figure = go.Figure()
    order = sorted(
        range(len(analysis.classes)),
        key=lambda i: -(analysis.table[i]['ap50'] or 0),
    )
    for place, i in enumerate(order):
        figure.add_scatter(
            x=recall,
            y=np.round(analysis.curves[i], 4),
            name=escape(analysis.classes[i]),
            mode='lines',
            visible=True if place < 12 else 'legendonly',
        )
    charts.append(
        (
            'Precision and recall at IoU 0.5',
            _finish(figure, 'recall', 'precision', unit=True),
        )
    )
    names = [*analysis.classes, 'background']
    title = f'Confusion of detections with a score of {SCORE} or more'
    missed = [*analysis.classes, 'missed']
    charts.append((title, _matrix(analysis.confusion, names, missed)))
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode='lines',
        line=dict(color=GREY, dash='dot'),
        name='perfect',
    )
    figure.add_scatter(
        x=[point['score'] for point in analysis.calibration],
        y=[point['precision'] for point in analysis.calibration],
        customdata=[point['count'] for point in analysis.calibration],
        hovertemplate='score %{x:.2f}, right %{y:.2f}, of %{customdata}',
        mode='lines+markers',
        name='model',
        line=dict(color=COLOURS[0]),
    )
    charts.append(
        ('Calibration', _finish(figure, 'score', 'share right', unit=True))
    )
    return charts


def draw_confusion(
    analysis: SegmentationAnalysis | ClassificationAnalysis,
) -> list[tuple[str, str]]:
    """Return the title and the chart of a confusion matrix."""
    names = analysis.classes
    title = 'Confusion: truth in rows, prediction in columns'
    matrix = analysis.confusion
    if matrix.dtype.kind == 'f':
        matrix = np.round(matrix, 4)
        title += ', in shares of the truth'
    return [(title, _matrix(matrix, names, names))]


def _matrix(
    matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> str:
    """Draw truth in rows by prediction in columns."""
    import plotly.graph_objects as go

    if len(rows) > MANY:
        wrong = matrix - np.diag(matrix.diagonal())
        order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind='stable')
        keep = np.sort(order[:MANY])
        matrix = matrix[np.ix_(keep, keep)]
        rows = [rows[i] for i in keep]
        columns = [columns[i] for i in keep]
    figure = go.Figure(
        go.Heatmap(
            z=matrix,
            x=[*range(len(columns))],
            y=[*range(len(rows))],
            text=[
                [escape(f'{row} as {column}') for column in columns]
                for row in rows
            ],
            hovertemplate='%{text}: %{z}<extra></extra>',
            colorscale='Blues',
            zmin=0,
        )
    )
    for axis, names in (('xaxis', columns), ('yaxis', rows)):
        figure.update_layout(
            {
                axis: dict(
                    tickvals=[*range(len(names))],
                    ticktext=[escape(name) for name in names],
                )
            }
        )
    figure.update_yaxes(autorange='reversed')
    height = max(360, 140 + 16 * len(rows))
    return _finish(figure, 'prediction', 'truth', height=height)


def _finish(
    figure: Any, x: str, y: str, unit: bool = False, height: int = 360
) -> str:
    """Return the HTML of a chart in the page's style."""
    figure.update_layout(
        height=height,
        margin=dict(l=10, r=10, t=10, b=10),
        paper_bgcolor='rgba(0,0,0,0)',
        plot_bgcolor='rgba(0,0,0,0)',
        font=dict(color=GREY, size=12),
        hovermode='closest',
        legend=dict(font=dict(size=11)),
        showlegend=len(figure.data) > 1,
    )
    axis = dict(gridcolor=GRID, zerolinecolor=GRID, automargin=True)
    figure.update_xaxes(title=x, **axis)
    figure.update_yaxes(title=y, **axis)
    if unit:
        figure.update_xaxes(range=[0, 1.02])
        figure.update_yaxes(range=[0, 1.02])
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        config=dict(responsive=True, displayModeBar=False),
    )
