"""Draw rows of maps and curves over depth, as PNG and SVG."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

DPI = 150
SIDE = 1.7
"""Width of a panel in inches."""
# Equal input gives equal files.
STYLE: Any = {
    'svg.hashsalt': 'mmsmt',
    'svg.fonttype': 'none',
    'text.parse_math': False,  # names may have a $
    'font.size': 8,
    'axes.titlesize': 8,
}
NO_DATE = {'png': {'Software': None}, 'svg': {'Date': None}}


@dataclass
class Panel:
    """A map beside an image.

    Args:
        title (str): Its title.
        values (Tensor, optional): (h, w) over the padded image; None leaves
            the panel empty.
        over (bool): Draw it over the image.
    """

    title: str
    values: Tensor | None
    over: bool = False


@dataclass
class Row:
    """An image and its panels.

    Args:
        label (str): Left of the image.
        image (np.ndarray): (H, W, 3) uint8 pixels, RGB, as the model sees it.
        padded (tuple[int, int]): Height and width that the model pads it to.
        panels (list[Panel]): Right of it.
    """

    label: str
    image: np.ndarray
    padded: tuple[int, int]
    panels: list[Panel] = field(default_factory=list)


def draw_rows(rows: Sequence[Row], title: str, stem: Path) -> list[Path]:
    """Draw images and their maps, each map from its least to its largest.

    Args:
        rows (Sequence[Row]): From top to bottom, with equally many panels.
        title (str): Above them.
        stem (Path): Path of the files without suffix.

    Returns:
        list[Path]: The PNG and the SVG.
    """
    columns = 1 + max(len(row.panels) for row in rows)
    ratio = max(row.image.shape[0] / row.image.shape[1] for row in rows)
    size = SIDE * columns, (SIDE * ratio + 0.25) * len(rows) + 0.3
    with matplotlib.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(rows), columns, figsize=size, squeeze=False, layout='tight'
        )
        above: list[str] = []
        for row, axes in zip(rows, grid):
            height, width = row.image.shape[:2]
            axes[0].imshow(row.image)
            axes[0].set_ylabel(row.label, fontsize=6)
            titles = [panel.title for panel in row.panels]
            for panel, axis in zip(row.panels, axes[1:]):
                _draw_panel(panel, axis, row)
                if panel.over or titles != above:
                    axis.set_title(panel.title)
            above = titles
            for axis in axes:
                axis.set(xticks=[], yticks=[])
                axis.set(xlim=(0, width), ylim=(height, 0))
                axis.spines[:].set_visible(False)
        return _save(figure, title, stem)


def _draw_panel(panel: Panel, axis: Any, row: Row) -> None:
    if panel.values is None:
        axis.text(*(0.5, 0.5, '–'), transform=axis.transAxes, ha='center')
        return
    values = panel.values.numpy()
    # Bounds are those of the image; the padding is not shown.
    parts = [
        max(1, -(-n * side // total))
        for n, side, total in zip(values.shape, row.image.shape, row.padded)
    ]
    shown = values[: parts[0], : parts[1]]
    if panel.over:
        axis.imshow(row.image)
    axis.imshow(
        values,
        cmap='turbo' if panel.over else 'viridis',
        alpha=0.5 if panel.over else 1,
        vmin=shown.min(),
        vmax=shown.max(),
        extent=(0, row.padded[1], row.padded[0], 0),
        interpolation='bilinear',
    )


@dataclass
class Curve:
    """Receptive fields of a model's MSA blocks over depth.

    Args:
        label (str): Name in the legend.
        places (list[tuple[int, int]]): Stage and layer of each block.
        fields (list[np.ndarray]): (heads, 2) of each block, by positions in
            the sequence and by distances in the plane.
        uniform (list[np.ndarray]): (2,), those of uniform attention.
    """

    label: str
    places: list[tuple[int, int]] = field(default_factory=list)
    fields: list[np.ndarray] = field(default_factory=list)
    uniform: list[np.ndarray] = field(default_factory=list)

    def add(
        self, place: tuple[int, int], fields: np.ndarray, uniform: np.ndarray
    ) -> None:
        """Add a block."""
        self.places.append(place)
        self.fields.append(fields)
        self.uniform.append(uniform)


def draw_curves(curves: Sequence[Curve], title: str, stem: Path) -> list[Path]:
    """Draw means and standard deviations of heads over depth.

    Args:
        curves (Sequence[Curve]): One per model.
        title (str): Above them.
        stem (Path): Path of the files without suffix.

    Returns:
        list[Path]: The PNG and the SVG.
    """
    places = sorted({place for curve in curves for place in curve.places})
    kinds = 'positions in the sequence', 'distances in the plane'
    with matplotlib.rc_context(STYLE):
        figure, grid = plt.subplots(
            *(1, 2), figsize=(9, 3.8), sharey=True, layout='tight'
        )
        for part, (axis, kind) in enumerate(zip(grid, kinds)):
            for number, curve in enumerate(curves):
                _draw_curve(curve, part, places, axis, f'C{number}')
            labels = [f'{stage}.{layer}' for stage, layer in places]
            axis.set_xticks(range(len(places)), labels, rotation=90)
            axis.set(xlabel='MSA block (stage.layer)', title=f'By {kind}')
            axis.grid(alpha=0.3)
        grid[0].plot([], [], 'k_:', linewidth=0.8, label='uniform attention')
        grid[0].set_ylabel('relative receptive field')
        grid[0].set_ylim(bottom=0)
        grid[0].legend(fontsize=7)
        return _save(figure, title, stem)


def _draw_curve(
    curve: Curve, part: int, places: list, axis: Any, color: str
) -> None:
    """Draw a line for each stage, whose tokens are of different sizes."""
    label: str | None = curve.label
    for stage in sorted({stage for stage, _ in curve.places}):
        mine = [i for i, place in enumerate(curve.places) if place[0] == stage]
        x = [places.index(curve.places[i]) for i in mine]
        heads = [curve.fields[i][:, part] for i in mine]
        axis.errorbar(
            x,
            [values.mean() for values in heads],
            [values.std() for values in heads],
            fmt='o-',
            markersize=3,
            capsize=2,
            color=color,
            label=label and label.lstrip('_'),  # others are hidden
        )
        uniform = [curve.uniform[i][part] for i in mine]
        axis.plot(x, uniform, '_:', color=color, linewidth=0.8)
        label = None


def _save(figure: Any, title: str, stem: Path) -> list[Path]:
    width = int(14 * figure.get_figwidth())  # characters
    lines = [textwrap.fill(line, width) for line in title.splitlines()]
    figure.suptitle('\n'.join(lines), fontsize=9)
    paths = []
    for suffix, metadata in NO_DATE.items():
        path = stem.with_name(f'{stem.name}.{suffix}')
        figure.savefig(path, dpi=DPI, metadata=metadata)
        paths.append(path)
    plt.close(figure)
    return paths
