"""Compose the paper's figures from recordings."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import torch

from mmsmt.runs.files import write_text

from .drawing import Curve, Panel, Row, draw_curves, draw_rows
from .recording import Modulation, Recording
from .study import Study

Panels = Callable[[int, Study], list[Panel]]


class NotDrawn(Exception):
    """Reason for a figure that cannot be drawn of these models."""


def _draw_4(studies: list[Study], folder: Path) -> list[Path]:
    """Draw MHMC's heads in stage 1, and modulators of stages 1 and 2."""
    firsts = [_last(study.recordings[0], 1) for study in studies]
    kernels = max((first.kernels for first in firsts), key=len)

    def heads(i: int, study: Study) -> list[Panel]:
        found = _last(study.recordings[i], 1)
        maps = dict(zip(found.kernels, found.heads))
        return [Panel(f'{k}×{k}', maps.get(k)) for k in kernels]

    title = 'Heads of MHMC in the last layer of stage 1 (Figure 4a)'
    files = _draw(studies, heads, title, folder / 'figure_4a')
    title = 'Modulators in the last layers of stages 1 and 2 (Figure 4b)'
    files += _draw_stages(studies, (1, 2), title, folder / 'figure_4b')
    return files


def _draw_5(studies: list[Study], folder: Path) -> list[Path]:
    """Draw modulators before and after SAA."""
    stages = _common_stages(studies, (1, 2, 3))

    def panels(i: int, study: Study) -> list[Panel]:
        found = [_last(study.recordings[i], stage) for stage in stages]
        return [
            panel
            for stage, x in zip(stages, found)
            for panel in (
                Panel(f'stage {stage}, before', x.before),
                Panel(f'stage {stage}, after', x.after),
            )
        ]

    title = 'Modulators before and after SAA, last SAM layers (Figure 5)'
    return _draw(studies, panels, title, folder / 'figure_5')


def _draw_7(studies: list[Study], folder: Path) -> list[Path]:
    """Draw relative receptive fields over depth, and write them as CSV.

    Heads are averaged over the images first; the bars are the standard
    deviations of heads.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(('model', 'stage', 'layer', 'head', 'sequence', 'plane'))
    curves = []
    for study in studies:
        curve = Curve(study.label)
        for blocks in zip(*(x.fields for x in study.recordings)):
            place = blocks[0].stage, blocks[0].layer
            fields = torch.stack([x.fields for x in blocks]).mean(dim=0)
            uniform = torch.stack([x.uniform for x in blocks]).mean(dim=0)
            curve.add(place, fields.numpy(), uniform.numpy())
            for head, (sequence, plane) in enumerate(fields.tolist(), 1):
                values = f'{sequence:.6f}', f'{plane:.6f}'
                writer.writerow((study.label, *place, head, *values))
        curves.append(curve)
    if not any(curve.places for curve in curves):
        raise NotDrawn('there is no MSA block')
    number = len(studies[0].images)
    title = (
        f'Relative receptive field of MSA blocks, {number} images, bars: '
        'deviation of heads (Figure 7)\n'
        + '\n'.join(study.label for study in studies)
    )
    files = draw_curves(curves, title, folder / 'figure_7')
    path = folder / 'figure_7.csv'
    write_text(path, text.getvalue())
    return [*files, path]


def _draw_8(studies: list[Study], folder: Path) -> list[Path]:
    """Draw modulators of the SAM layers of stage 3 that all models have."""
    layers = set.intersection(
        *(
            {x.layer for x in study.recordings[0].modulations if x.stage == 3}
            for study in studies
        )
    )
    if not layers:
        raise NotDrawn('stage 3 has no SAM block')

    def panels(i: int, study: Study) -> list[Panel]:
        return [
            Panel(f'layer {x.layer}', x.after)
            for x in study.recordings[i].modulations
            if x.stage == 3 and x.layer in layers
        ]

    title = 'Modulators of the SAM layers of stage 3 (Figure 8)'
    return _draw(studies, panels, title, folder / 'figure_8')


def _draw_9(studies: list[Study], folder: Path) -> list[Path]:
    """Draw modulators of stages 1 to 3."""
    title = 'Modulators in the last SAM layers of stages 1 to 3 (Figure 9)'
    return _draw_stages(studies, (1, 2, 3), title, folder / 'figure_9')


def _draw_cam(studies: list[Study], folder: Path) -> list[Path]:
    """Draw class activation maps over the images."""

    def panels(i: int, study: Study) -> list[Panel]:
        found = study.activations[i]
        if found is None:
            return [Panel('nothing found', None)]
        return [Panel(found[0], found[1], over=True)]

    title = 'Class activation maps (HiResCAM)'
    return _draw(studies, panels, title, folder / 'cam')


FIGURES = {
    '4': _draw_4,
    '5': _draw_5,
    '7': _draw_7,
    '8': _draw_8,
    '9': _draw_9,
    'cam': _draw_cam,
}
"""Functions that draw the figures, by the paper's number.

Each takes studies of the same images and a folder, returns the files that it
wrote, and raises :class:`NotDrawn` where the models lack the blocks.
"""


def _draw_stages(
    studies: list[Study], wanted: tuple[int, ...], title: str, stem: Path
) -> list[Path]:
    stages = _common_stages(studies, wanted)

    def panels(i: int, study: Study) -> list[Panel]:
        found = [_last(study.recordings[i], stage) for stage in stages]
        return [Panel(f'stage {x.stage}', x.after) for x in found]

    return _draw(studies, panels, title, stem)


def _draw(
    studies: list[Study], panels: Panels, title: str, stem: Path
) -> list[Path]:
    """Draw a row for each image and model."""
    rows = []
    for i in range(len(studies[0].images)):
        for study in studies:
            seen = study.images[i]
            label = seen.label
            if len(studies) > 1:
                label = study.label.replace(', ', '\n')
            rows.append(Row(label, seen.image, seen.padded, panels(i, study)))
    labels = '\n'.join(study.label for study in studies)
    return draw_rows(rows, f'{title}\n{labels}', stem)


def _common_stages(studies: list[Study], wanted: tuple[int, ...]) -> list[int]:
    found = [
        {x.stage for x in study.recordings[0].modulations} for study in studies
    ]
    return sorted(set(wanted).intersection(*found))


def _last(recording: Recording, stage: int) -> Modulation:
    """Return the last SAM block of a stage."""
    return [x for x in recording.modulations if x.stage == stage][-1]
