"""The paper's Tables 1 to 6 and 14, beside what is measured here and now.

    python tools/paper_tables.py [--table 3 4] [--baselines] [--json]

For each row of SMT: parameters and FLOPs as the paper prints them and as our
config's model has them, and accuracy as the paper prints it and as runs under
work_dirs/ reached it.
"""

import argparse
import contextlib
import importlib.util
import json
import logging
import sys
import textwrap
import warnings
from collections.abc import Iterator
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path

from mmsmt import environment, launch
from mmsmt.analysis import models
from mmsmt.analysis.complexity import Complexity, measure
from mmsmt.analysis.paper import PARTS, Part, Row
from mmsmt.analysis.runs import Run, read_run

NOTES = {
    'M': 'Parameters in millions, of the whole model, heads for training '
    'included.',
    'G': 'Multiply-accumulates of one image of the given size, in 10^9; the '
    'paper calls them FLOPs.',
    'paper-style G': "What mmcv's counter sees, as the paper's tools did: "
    'modules (convolutions, linear layers, norms, ReLU, pooling), so no '
    'QK^T and AV and no other function. Two-stage detectors with 1000 boxes '
    'and 100 masks.',
    'all G': 'Every product of convolutions, linear layers and matrices, '
    'attention and deformable heads included; no biases and norms.',
    'small-paper': "Table 13's SMT-S, which the paper's columns are for; "
    "'small' is the SMT-S whose weights were released, and what our configs "
    'train.',
    'best': "The validation with the highest first column; 'last' is the one "
    'after the last epoch or iteration so far.',
    'difference': "From the paper's, in points.",
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--table',
        type=int,
        nargs='+',
        choices=sorted({part.table for part in PARTS}),
        metavar='N',
        help='only these: 1 to 6, 14',
    )
    parser.add_argument(
        '--baselines',
        action='store_true',
        help='measure the rows of other backbones that the hosts can build',
    )
    parser.add_argument(
        '--work-dirs',
        metavar='DIR',
        help='where the runs are, in folders named as their configs '
        '(default: work_dirs)',
    )
    parser.add_argument(
        '--json', action='store_true', help='one JSON document instead'
    )
    args = parser.parse_args()
    if args.work_dirs and not Path(args.work_dirs).is_dir():
        parser.error(f"there is no folder '{args.work_dirs}'")
    args.work_dirs = Path(args.work_dirs or 'work_dirs')
    return args


def main() -> None:
    args = parse_args()
    warnings.simplefilter('ignore')
    parts = [p for p in PARTS if not args.table or p.table in args.table]
    hosts = {part.host for part in parts}
    environment.check(
        needs=tuple(h for h in hosts if importlib.util.find_spec(h))
    )
    tables = []
    measured: dict = {}
    for part in parts:
        with quiet():
            tables.append(collect(part, args, measured))
        if not args.json:
            show(tables[-1])
    if args.json:
        document = dict(notes=NOTES, tables=tables)
        print(json.dumps(document, indent=1, default=float))
    else:
        print('Notes')
        for name, note in NOTES.items():
            print(textwrap.indent(textwrap.fill(f'{name}: {note}', 96), '  '))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the hosts say while they build is no part of the answer."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(logging.NOTSET)


# Collecting ------------------------------------------------------------------


def collect(part: Part, args: argparse.Namespace, measured: dict) -> dict:
    """A part of a table and what there is to put beside it, as plain data."""
    rows = []
    for row in part.rows:
        if not row.smt and not args.baselines:
            continue
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
                read(part, row, schedule, config, args.work_dirs)
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
    """Parameters and MACs, or the reason why not; each model once."""
    key = (part.config, row.backbone, row.size, arch)
    if key not in measured:
        try:
            if row.smt:
                model = models.build_smt(part, row, arch)
                name = model.backbone.arch
            else:
                model, name = models.build_baseline(part, row), None
            cost: Complexity = measure(model, row.size)
            measured[key] = dict(arch=name, **cost._asdict())
        except models.NotMeasured as reason:
            measured[key] = dict(arch=arch, reason=str(reason))
    return measured[key]


def read(
    part: Part, row: Row, schedule: str, config: str, work_dirs: Path
) -> dict:
    """What a config's run reached, or why there is nothing."""
    entry = dict(config=config, schedule=schedule)
    try:
        cfg = models.load_config(config, part.host)
    except models.NotMeasured as reason:
        return dict(entry, state=str(reason))
    run = read_run(work_dirs / config, cfg)
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
                column: round(value - float(paper[column]), 2)
                for column, value in ours.items()
                if value is not None and paper[column] is not None
            },
        )

    best = run.best(next(iter(part.metrics.values())))
    if best:
        last = run.scores[-1]
        entry['best'] = dict(step=best.step, **compare(best.values))
        entry['last'] = dict(step=last.step, **compare(last.values))
    if any(logged in run.tested for logged in part.metrics.values()):
        entry['tested'] = compare(run.tested)
    entry['state'] = state(run)
    return entry


def state(run: Run) -> str:
    if not run.scores:
        return 'no validation yet'
    if run.finished:
        return 'finished'
    return f'unfinished: {run.unit} {run.scores[-1].step} of {run.total}'


# Printing --------------------------------------------------------------------


def show(table: dict) -> None:
    """Print one part: first what the models cost, then what they reached."""
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
            line += [text(paper['parameters']), '-', text(paper['flops'])]
            if 'reason' in ours:
                lines.append([*line, ours['reason']])
                continue
            line[4] = f'{ours["parameters"] / 1e6:.2f}'
            for macs in (ours['paper_style'], ours['macs']):
                line.append(f'{macs / 1e9:.{1 if macs > 1e11 else 2}f}')
            lines.append(line)
    align(lines, left=3)
    lines = [['accuracy', '', *table['columns']]]
    for row in table['rows']:
        for run in row.get('runs', []):
            lines += score_lines(row, run)
    align(lines, left=2)


def score_lines(row: dict, run: dict) -> list[list[str]]:
    """The paper's line, then the best, the last and their differences."""
    paper = row['paper']['scores'][run['schedule']]
    columns = list(paper)
    lines = [
        [f'{row["backbone"]} {run["schedule"]}', 'paper']
        + [text(paper[column]) for column in columns]
    ]
    about = run['config']
    if run.get('arch'):
        about += f' ({run["arch"]}, {run["data_root"]})'
    lines.append(['', f'{about}: {run["state"]}'])
    for kind in ('best', 'last', 'tested'):
        if kind not in run:
            continue
        found = run[kind]
        name = f'{kind}, {run["unit"]} {found["step"]}'
        if kind == 'tested':
            name = 'last --tta test'
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


def text(value: Decimal | None) -> str:
    """With the digits that the paper prints."""
    return '-' if value is None else str(value)


def align(lines: list[list[str]], left: int) -> None:
    """Print columns, the first ``left`` flush left.

    Lines that are cut short by a remark do not widen them.
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


if __name__ == '__main__':
    launch.run(main)
