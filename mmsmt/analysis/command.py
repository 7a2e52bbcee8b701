"""Print the paper's Tables 1 to 6 and 14 beside our measurements.

    mmsmt tables [--table 3 4] [--baselines] [--json]

For each row of SMT, print parameters, FLOPs and accuracy from the paper, the
parameters and FLOPs of our config's model, the accuracy of its runs and tests
under work_dirs/, whether these were on COCO 2017, and what is missing to fill
the row.
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
from pathlib import Path

from mmsmt import environment
from mmsmt.errors import UsageError

from .paper import PARTS
from .tables import NOTES, collect_part, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tables``."""
    parser.add_argument(
        '--table',
        type=int,
        nargs='+',
        choices=sorted({part.table for part in PARTS}),
        metavar='N',
        help='tables to print, of 1 to 6 and 14 (default: all)',
    )
    parser.add_argument(
        '--baselines',
        action='store_true',
        help='measure the rows of other backbones that the hosts can build',
    )
    parser.add_argument(
        '--work-dirs',
        metavar='DIR',
        help='folder of the runs, each in a folder named after its config '
        '(default: work_dirs)',
    )
    parser.add_argument(
        '--json', action='store_true', help='print one JSON document'
    )


def main(args: argparse.Namespace) -> None:
    """Run ``tables``."""
    if args.work_dirs and not Path(args.work_dirs).is_dir():
        raise UsageError(f"there is no folder '{args.work_dirs}'")
    work_dirs = Path(args.work_dirs or 'work_dirs')
    warnings.simplefilter('ignore')
    parts = [p for p in PARTS if not args.table or p.table in args.table]
    hosts = {part.host for part in parts}
    environment.check(
        needs=tuple(h for h in hosts if importlib.util.find_spec(h))
    )
    tables = []
    measured: dict = {}
    for part in parts:
        with _quiet_hosts():
            tables.append(
                collect_part(part, work_dirs, args.baselines, measured)
            )
        if not args.json:
            print_table(tables[-1])
    if args.json:
        document = dict(notes=NOTES, tables=tables)
        print(json.dumps(document, indent=1, default=float))
    else:
        print('Notes')
        for name, note in NOTES.items():
            print(textwrap.indent(textwrap.fill(f'{name}: {note}', 96), '  '))


@contextlib.contextmanager
def _quiet_hosts() -> Iterator[None]:
    """Redirect the hosts' output to stderr and disable their logging."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        logging.disable(logging.NOTSET)
