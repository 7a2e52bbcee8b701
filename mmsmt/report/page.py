"""Put together the parts of a report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mmsmt.analysis.paper import iter_smt_scores
from mmsmt.data.configured import iter_evaluators, type_name
from mmsmt.data.convert.pictures import colour_of
from mmsmt.runs.files import hash_file
from mmsmt.runs.records import PREDICTIONS

from . import charts
from .classification import analyze_classification
from .detection import (
    KINDS,
    SCORE,
    ImageResult,
    analyze_detection,
)
from .pictures import draw_class_maps, draw_detection, draw_image
from .runs import RunLog, curve_names
from .segmentation import analyze_segmentation

UNITS = {'epoch': 'epoch', 'iter': 'iteration'}
WORST, OTHERS = 6, 3
"""Numbers of pictures: the worst; the median ones, and the best."""


@dataclass
class PagePart:
    """A section of the page; each list is shown in this order."""

    key: str
    title: str
    notes: list[str] = field(default_factory=list)
    tables: list[dict] = field(default_factory=list)
    charts: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[dict] = field(default_factory=list)
    texts: list[dict] = field(default_factory=list)


def make_parts(
    runs: Sequence[RunLog], data_root: str | None = None
) -> list[PagePart]:
    """Return the sections of a page about runs.

    Args:
        runs (Sequence[RunLog]): The runs.
        data_root (str, optional): Folder of the dataset, instead of the
            config's.
    """
    parts = [_summarize(runs)]
    lines = charts.draw_curves(runs)
    curves = PagePart('curves', 'Curves', charts=lines)
    if not lines:
        curves.notes.append('No iteration is logged yet.')
    parts.append(curves)
    for number, run in enumerate(runs):
        part = _analyze(run, data_root)
        if len(runs) > 1:
            part.key += str(number + 1)
            part.title = f'{run.name}: {part.title}'
        parts.append(part)
    parts.append(_show_configs(runs))
    return parts


def render(title: str, parts: Sequence[PagePart]) -> str:
    """Return the page, with all that it needs inside."""
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    now = f'{datetime.now():%Y-%m-%d %H:%M}'
    return environment.get_template('page.html').render(
        title=title,
        subtitle=f'Report of {now}',
        parts=parts,
        plotly=get_plotlyjs(),
    )


_DASH = '–'


def _number(value: float | None, digits: int = 1) -> str:
    return _DASH if value is None else f'{value:.{digits}f}'


def _make_table(
    title: str, lines: Sequence[dict], columns: dict[str, str]
) -> dict:
    """Make a table of lines: shares in per cent, numbers and texts as such.

    Args:
        title (str): Its title.
        lines (Sequence[dict]): Values by key.
        columns (dict[str, str]): Keys by head of the column.
    """
    rows = [[_format(line[key]) for key in columns.values()] for line in lines]
    return dict(title=title, head=[*columns], rows=rows)


def _format(value: Any) -> str:
    if isinstance(value, float):
        return _number(100 * value)
    return _DASH if value is None else str(value)


# What ran --------------------------------------------------------------------


def _summarize(runs: Sequence[RunLog]) -> PagePart:
    """Compare what ran, and the scores with the paper's."""
    part = PagePart('run', 'Run' if len(runs) == 1 else 'Runs')
    columns = [_describe(run) for run in runs]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [[key, *(c.get(key, '–') for c in columns)] for key in keys]
    head = ['', *(run.name for run in runs)] if len(runs) > 1 else None
    part.tables.append(dict(head=head, rows=rows, text=True))
    for run in runs:
        unit, total = run.total
        reached = run.reached
        if run.training and reached < total:
            part.notes.append(
                f'{run.name} is not finished: {UNITS[unit]} {reached} of '
                f'{total}.'
            )
    scores = _compare_scores(runs)
    if scores:
        part.tables.append(scores)
    return part


def _describe(run: RunLog) -> dict[str, str]:
    unit, total = run.total
    info = run.info
    loader = run.cfg.get('train_dataloader') or {}
    processes = info.get('processes') or 1
    rows = {
        'Config': info.get('config') or '',
        'Work dir': str(run.folder),
        'Progress': f'{run.reached} of {total} {UNITS[unit]}s',
        'Training images': str(info.get('images') or ''),
        'Batch': f'{processes} × {loader.get("batch_size", "?")}',
        'Seed': str(info.get('seed', '')),
        'Device': info.get('device') or '',
        'Time of iterations': _format_time(run.seconds()),
        'Peak memory': f'{info["peak"]} GiB' if info.get('peak') else '',
        'Python': info.get('python') or '',
        'Packages': ', '.join(
            f'{k} {v}' for k, v in (info.get('versions') or {}).items()
        ),
        'Command': ' '.join(map(str, info.get('command') or ())),
    }
    return {key: value for key, value in rows.items() if value}


def _format_time(seconds: float) -> str:
    if not seconds:
        return ''
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f'{minutes // 60} h {minutes % 60} min'
    return f'{minutes} min {seconds % 60:.0f} s'


def _compare_scores(runs: Sequence[RunLog]) -> dict | None:
    """Return a table of the last and best scores, and the paper's."""
    names = list(
        dict.fromkeys(
            name for run in runs for name in curve_names(run)['Scores']
        )
    )
    if not names:
        return None
    papers = [_find_paper_scores(run) for run in runs]
    head = ['Score']
    for run, paper in zip(runs, papers):
        prefix = f'{run.name}: ' if len(runs) > 1 else ''
        head += [f'{prefix}last', f'{prefix}best']
        head += [f'{prefix}paper'] if paper else []
    rows = []
    for name in names:
        row = [name]
        for run, paper in zip(runs, papers):
            values = [line[name] for line in run.scores if name in line]
            scale = 100 if name.startswith('coco/') else 1
            row.append(_number(scale * values[-1], 2) if values else '–')
            row.append(_number(scale * max(values), 2) if values else '–')
            row += [_number(paper.get(name))] if paper else []
        rows.append(row)
    return dict(title='Scores', head=head, rows=rows)


def _find_paper_scores(run: RunLog) -> dict[str, float]:
    """Return the paper's figures of a shipped config."""
    stem = Path(run.info.get('config') or '').stem
    for config, scores in iter_smt_scores():
        if config == stem:
            return {name: float(value) for name, value in scores.items()}
    return {}


def _show_configs(runs: Sequence[RunLog]) -> PagePart:
    part = PagePart('config', 'Config')
    for run in runs:
        changed = run.info.get('changed') or {}
        prefix = f'{run.name}: ' if len(runs) > 1 else ''
        if changed:
            rows = [[key, value[:300]] for key, value in changed.items()]
            title = f'{prefix}set besides the file'
            part.tables.append(dict(title=title, rows=rows, text=True))
        if run.info.get('text'):
            title = f'{prefix}{run.info["config"]}'
            part.texts.append(dict(title=title, text=run.info['text']))
    if not part.texts:
        part.notes.append('The run did not record its config file.')
    return part


# Where it is right and wrong -------------------------------------------------


def _analyze(run: RunLog, data_root: str | None) -> PagePart:
    part = PagePart('errors', 'Right and wrong')
    if not run.predictions:
        part.notes.append(
            'No predictions are stored: no validation or test of mmsmt has '
            f"finished with this work dir. 'mmsmt test CONFIG CHECKPOINT "
            f"--work-dir {run.folder}' stores them."
        )
        return part
    place = run.predictions.get('epoch') or run.predictions.get('iteration')
    when = f', at {place}' if run.split == 'val' and place else ''
    source = {'val': 'validation', 'test': 'test'}[run.split]
    part.title = f'Right and wrong (last {source}{when})'
    functions = {
        'detection': _analyze_detector,
        'segmentation': _analyze_segmenter,
        'classification': _analyze_classifier,
    }
    if run.task in functions:
        functions[run.task](run, part, data_root)
    return part


def _analyze_detector(
    run: RunLog, part: PagePart, data_root: str | None
) -> None:
    kinds = {type_name(one) for one in iter_evaluators(run.cfg, run.split)}
    if 'CocoMetric' not in kinds:
        part.notes.append(
            f"This part needs the predictions of COCO's metric: the run has "
            f'{", ".join(sorted(kinds))}.'
        )
        return
    results = run.folder / PREDICTIONS / f'{run.split}.bbox.json'
    annotations, images = _find_truth(run, data_root)
    for path in (results, annotations):
        if not path.is_file():
            part.notes.append(
                f"'{path}' is missing, which this part needs. --data-root DIR "
                'says where the data is now.'
            )
            return
    known = (run.info.get('annotations') or {}).get(run.split) or {}
    if known.get('sha256', '') not in ('', hash_file(annotations)):
        part.notes.append(
            f"'{annotations}' has changed since the run, whose predictions "
            'are of the images and objects before: this part is left out.'
        )
        return
    classes = (run.predictions or {}).get('classes') or ()
    found = analyze_detection(annotations, results, images, classes)
    best_first = _sort(found.table, 'ap')
    columns = {'class': 'name', 'AP': 'ap', 'AP50': 'ap50'}
    columns['objects'] = 'objects'
    part.tables.append(_make_table('Boxes by class', best_first, columns))
    columns = {'size': 'name', 'area': 'text', 'objects': 'objects'}
    columns['AP'] = 'ap'
    part.tables.append(_make_table('Objects by size', found.sizes, columns))
    rows = [
        [kind, str(count), KINDS[kind]] for kind, count in found.errors.items()
    ]
    title = f'Errors by kind, of detections with a score of {SCORE} or more'
    head = ['kind', 'number', '']
    part.tables.append(dict(title=title, head=head, rows=rows, text=True))
    part.charts += charts.draw_detection_charts(found)
    for title, chosen in _choose_images(found.images).items():
        pictures = []
        for result in chosen:
            urls = draw_detection(result, found.classes)
            if urls:
                caption = f'{Path(result.file).name}: {_count(result)}'
                pictures.append(dict(urls=urls, caption=caption))
        if pictures:
            title += ': truth in blue, found in green, wrong in red'
            part.pictures.append(dict(title=title, pictures=pictures))


def _find_truth(run: RunLog, data_root: str | None) -> tuple[Path, Path]:
    """Return the annotations and the image folder of a detector's data."""
    loader = run.cfg.get(f'{run.split}_dataloader') or {}
    dataset = loader.get('dataset') or {}
    old = dataset.get('data_root') or ''
    root = Path(data_root or old)
    prefix = (dataset.get('data_prefix') or {}).get('img', '')
    files = [
        evaluator.get('ann_file')
        for evaluator in iter_evaluators(run.cfg, run.split)
        if type_name(evaluator) == 'CocoMetric'
    ]
    path = next(filter(None, files), None)
    converted = run.folder / PREDICTIONS / f'{run.split}.gt.json'
    if not path and converted.is_file():  # by the metric, from another format
        return converted, root / prefix
    if data_root or not path:
        path = root / dataset.get('ann_file', '')
    return Path(path), root / prefix


def _sort(lines: Sequence[dict], key: str) -> list[dict]:
    """Return lines with the highest value first, those without one last."""
    return sorted(lines, key=lambda line: -(line[key] or 0))


def _choose_images(
    images: Sequence[ImageResult],
) -> dict[str, Sequence[ImageResult]]:
    """Choose the worst, median and best images with anything in them."""
    full = [x for x in images if x.truth or x.found]
    middle = max(0, len(full) // 2 - 1)
    groups: dict[str, Sequence[ImageResult]] = {}
    groups['The worst images'] = full[:WORST]
    if len(full) > WORST + 2 * OTHERS:
        groups['Median images'] = full[middle : middle + OTHERS]
        groups['The best images'] = full[-OTHERS:]
    return groups


def _count(result: ImageResult) -> str:
    wrong = sum(1 for *_, kind in result.found if kind)
    right = len(result.found) - wrong
    return f'{right} of {len(result.truth)} found, {wrong} wrong'


def _analyze_segmenter(
    run: RunLog, part: PagePart, data_root: str | None
) -> None:
    assert run.predictions
    classes = run.predictions['classes']
    found = analyze_segmentation(run.predictions['records'], classes)
    columns = {'class': 'name', 'IoU': 'iou', 'accuracy': 'accuracy'}
    columns['pixels %'] = 'share'
    best_first = _sort(found.table, 'iou')
    part.tables.append(_make_table('By class', best_first, columns))
    part.charts += charts.draw_confusion(found)
    folder = run.folder / PREDICTIONS
    colours = np.array([colour_of(i) for i in range(len(found.classes))])
    pictures = []
    for record in [x for x in found.images if x.get('maps')][:WORST]:
        urls = draw_class_maps(record, folder, colours)
        if urls:
            name = Path(record['file']).name
            caption = f'{name}: mean IoU {100 * record["iou"]:.1f}'
            pictures.append(dict(urls=urls, caption=caption))
    if pictures:
        title = 'The worst images: truth, prediction'
        part.pictures.append(dict(title=title, pictures=pictures))


def _analyze_classifier(
    run: RunLog, part: PagePart, data_root: str | None
) -> None:
    assert run.predictions
    classes = run.predictions['classes']
    found = analyze_classification(run.predictions['records'], classes)
    columns = {'class': 'name', 'accuracy': 'accuracy', 'images': 'images'}
    best_first = _sort(found.table, 'accuracy')
    part.tables.append(_make_table('By class', best_first, columns))
    part.charts += charts.draw_confusion(found)
    pictures: list[dict[str, Any]] = []
    for record in found.wrong[: 2 * WORST]:
        url = draw_image(record['file'])
        truth = ', '.join(found.classes[i] for i in record['truth'])
        guess = found.classes[record['labels'][0]]
        caption = (
            f'{Path(record["file"] or "").name}: {truth} taken for {guess} '
            f'({record["scores"][0]:.2f})'
        )
        if url:
            pictures.append(dict(urls=[url], caption=caption))
    if pictures:
        title = 'The surest of the wrong ones'
        part.pictures.append(dict(title=title, pictures=pictures))
