"""The paper's tables beside our measurements, as data and as text."""

import re
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mmsmt.data.parallel import show_progress

from . import models
from .complexity import count_complexity
from .paper import TTA, Part, Row
from .runs import Run, read_run

NOTES = {
    'M': 'Parameters in millions, of the whole model, heads for training '
    'included.',
    'G': 'Multiply-accumulates of one image of the given size, in 10^9; the '
    'paper calls them FLOPs.',
    'paper-style G': "The count of mmcv's counter, as of the paper's tools: "
    'modules (convolutions, linear layers, norms, ReLU, pooling), without '
    'QK^T, AV and other functions. Two-stage detectors with 1000 boxes and '
    '100 masks.',
    'all G': 'Every product of convolutions, linear layers and matrices, '
    'attention and deformable heads included; no biases and norms.',
    'small-paper': "Table 13's SMT-S, to which the paper's columns refer; "
    "'small' is the SMT-S whose weights were released, which our configs "
    'train.',
    'best': "The validation with the highest first column; 'last' is the one "
    'after the last epoch or iteration so far.',
    'difference': "Difference from the paper's accuracy, in points.",
}


def collect_part(
    part: Part, work_dirs: Path, baselines: bool, measured: dict
) -> dict:
    """Collect a part of a table, our measurements and runs, as plain data.

    Args:
        part (Part): The part of the paper's table.
        work_dirs (Path): Folder of the runs, named after their configs.
        baselines (bool): Measure the rows of other backbones too.
        measured (dict): Costs of the models measured so far; extended in
            place.
    """
    rows = []
    wanted = [row for row in part.rows if row.smt or baselines]
    title = f'Table {part.table}, {part.title}'
    for row in show_progress(wanted, len(wanted), title, few=0):
        paper = dict(
            parameters=row.parameters,
            flops=row.flops,
            scores={s: part.scores(row, s) for s in part.schedules},
        )
        entry = dict(backbone=row.backbone, size=row.size, paper=paper)
        entry['measured'] = [
            measure_row(part, row, arch, measured)
            for arch in ((None, 'small-paper') if row.smt == 's' else (None,))
        ]
        if row.smt:
            entry['runs'] = [
                read_row(part, row, schedule, config, work_dirs)
                for schedule, config in zip(part.schedules, part.configs(row))
            ]
        rows.append(entry)
    return dict(
        table=part.table,
        title=part.title,
        columns=list(part.metrics),
        rows=rows,
    )


def measure_row(
    part: Part, row: Row, arch: str | None, measured: dict
) -> dict:
    """Count a row's parameters and MACs, or return the reason for none."""
    key = (part.config, row.backbone, row.size, arch)
    if key not in measured:
        try:
            if row.smt:
                model = models.build_smt(part, row, arch)
                name = model.backbone.arch
            else:
                model, name = models.build_baseline(part, row), None
            cost = count_complexity(model, row.size)
            measured[key] = dict(arch=name, **cost._asdict())
        except models.NotMeasured as reason:
            measured[key] = dict(arch=arch, reason=str(reason))
    return measured[key]


def read_row(
    part: Part, row: Row, schedule: str, config: str, work_dirs: Path
) -> dict:
    """Read the scores of a config's run, or return the reason for none."""
    entry: dict[str, Any] = dict(config=config, schedule=schedule)
    try:
        cfg = models.load_config(config, part.host)
    except models.NotMeasured as reason:
        return dict(entry, state=str(reason))
    run = read_run(work_dirs / config, cfg)
    entry['missing'] = find_missing(part, config, run)
    if run is None:
        return dict(entry, state='not run')
    entry.update(arch=run.arch, data_root=run.data_root)
    entry.update(unit=run.unit, total=run.total)
    paper = part.scores(row, schedule)

    def compare(values: dict) -> dict:
        ours = {
            column: values.get(logged)
            for column, logged in part.metrics.items()
        }
        return dict(
            scores=ours,
            difference={
                column: round(value - float(printed), 2)
                for column, value in ours.items()
                if value is not None and (printed := paper[column]) is not None
            },
        )

    best = run.best(next(iter(part.metrics.values())))
    if best:
        last = run.scores[-1]
        entry['best'] = dict(step=best.step, **compare(best.values))
        entry['last'] = dict(step=last.step, **compare(last.values))
    for kind in ('test', 'tta'):
        test = getattr(run, kind)
        if test and any(name in test.values for name in part.metrics.values()):
            entry[kind] = dict(
                checkpoint=test.checkpoint,
                coco=test.coco,
                **compare(test.values),
            )
    entry['coco'] = run.coco
    entry['state'] = describe_state(run)
    return entry


def find_missing(part: Part, config: str, run: Run | None) -> list[str]:
    """Return what is still to be done for a row's measured figures.

    Args:
        part (Part): The part of the paper's table.
        config (str): Name of the row's config.
        run (Run | None): Its run.
    """
    file = f'configs/{config}.py'
    plain = [m for m in part.metrics.values() if not m.startswith(TTA)]
    tested = bool(
        run and run.test and any(m in run.test.values for m in plain)
    )
    missing = []
    if run is None or (not run.scores and not tested):
        missing.append(f'training: bash tools/dist_train.sh {file} 8')
    elif run.scores and not run.finished and not is_of_end(run):
        after = run.scores[-1].step
        missing.append(
            f'{run.unit}s {after + 1} to {run.total}: bash '
            f'tools/dist_train.sh {file} 8 --resume'
        )
    if run is not None and run.deviations:
        missing.append(f'the recipe: the run had {", ".join(run.deviations)}')
    if run is not None and part.host == 'mmdet':
        coco = run.coco if run.scores or not run.test else run.test.coco
        if coco is False:
            missing.append('COCO 2017: the run has other annotations')
        elif coco is None:
            missing.append('proof of COCO 2017: the run has no hashes')
    views = [m for m in part.metrics.values() if m.startswith(TTA)]
    if views and not (run and run.tta):
        missing.append(
            f'a test: bash tools/dist_test.sh {file} CHECKPOINT 8 --tta'
        )
    return missing


def is_of_end(run: Run) -> bool:
    """Return whether the last epoch or iteration was tested, by the name."""
    name = (run.test and run.test.checkpoint) or ''
    return str(run.total) in re.findall(r'\d+', name)


def describe_state(run: Run) -> str:
    """Describe the progress of a run."""
    if not run.scores:
        return 'tested only' if run.test else 'no validation yet'
    if run.finished:
        return 'finished, by another recipe' if run.deviations else 'finished'
    return f'unfinished: {run.unit} {run.scores[-1].step} of {run.total}'


def print_table(table: dict) -> None:
    """Print one part: costs of the models, then accuracies."""
    print(f'Table {table["table"]}. {table["title"]}\n')
    lines = [
        ['backbone', 'arch', 'image', 'paper M', 'ours M', 'paper G']
        + ['paper-style G', 'all G']
    ]
    for row in table['rows']:
        height, width = row['size']
        paper = row['paper']
        for ours in row['measured']:
            line = [row['backbone'], ours['arch'] or '', f'{width}x{height}']
            line += [
                format_number(paper['parameters']),
                '-',
                format_number(paper['flops']),
            ]
            if 'reason' in ours:
                lines.append([*line, ours['reason']])
                continue
            line[4] = f'{ours["parameters"] / 1e6:.2f}'
            for macs in (ours['paper_style'], ours['macs']):
                line.append(f'{macs / 1e9:.{1 if macs > 1e11 else 2}f}')
            lines.append(line)
    print_aligned(lines, left=3)
    lines = [['accuracy', '', *table['columns']]]
    for row in table['rows']:
        for run in row.get('runs', []):
            lines += score_lines(row, run)
    print_aligned(lines, left=2)
    lines = [
        [f'{row["backbone"]} {run["schedule"]}', text]
        for row in table['rows']
        for run in row.get('runs', [])
        for text in run.get('missing', ())
    ]
    if lines:
        print_aligned([['missing', ''], *lines], left=2)


def score_lines(row: dict, run: dict) -> list[list[str]]:
    """Return lines of the paper's scores, a run's, and their differences."""
    paper = row['paper']['scores'][run['schedule']]
    columns = list(paper)
    lines = [
        [f'{row["backbone"]} {run["schedule"]}', 'paper']
        + [format_number(paper[column]) for column in columns]
    ]
    about = run['config']
    if run.get('arch'):
        about += f' ({run["arch"]}, {run["data_root"]})'
    if run.get('coco') is False:
        about += ', not on COCO'
    lines.append(['', f'{about}: {run["state"]}'])
    for kind in ('best', 'last', 'test', 'tta'):
        if kind not in run:
            continue
        found = run[kind]
        if 'step' in found:
            name = f'{kind}, {run["unit"]} {found["step"]}'
        else:
            name = 'test' if kind == 'test' else '--tta test'
            if found['checkpoint']:
                name += f' of {found["checkpoint"]}'
            if found['coco'] is False:
                name += ', not on COCO'
        for label, values, form in (
            (name, found['scores'], '{:.1f}'),
            ('difference', found['difference'], '{:+.1f}'),
        ):
            cells = [values.get(column) for column in columns]
            lines.append(
                ['', f'  {label}']
                + ['-' if c is None else form.format(c) for c in cells]
            )
    return lines


def format_number(value: Decimal | None) -> str:
    """Format a number with the digits that the paper prints."""
    return '-' if value is None else str(value)


def print_aligned(lines: list[list[str]], left: int) -> None:
    """Print aligned columns, the first ``left`` flush left.

    The remark at the end of a shorter line does not widen its column.
    """
    full = len(lines[0])
    sized = [line if len(line) == full else line[:-1] for line in lines]
    columns = zip_longest(*sized, fillvalue='')
    widths = [max(map(len, column)) for column in columns]
    for line in lines:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ]
        print('  ' + '  '.join(cells).rstrip())
    print()
