"""Write a page about a run, or several side by side, in one file.

    mmsmt report WORK_DIR [WORK_DIR ...] [--out report.html]

Shows what ran, its curves, and, from the predictions that train and test
store in the work dir, where the model is right and wrong. The page needs no
network. A run that goes on or has failed is shown as far as it came.
"""

import argparse
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mmsmt.runs.files import write_text

from .page import make_parts, render
from .runs import ReportError, read_run_log

NEEDED = ('plotly', 'jinja2')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line of ``report``."""
    parser.add_argument('work_dirs', nargs='+', type=Path, metavar='WORK_DIR')
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE',
        help='the page (default: WORK_DIR/report.html of the first)',
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help='folder of the dataset, where it is not any more as it was',
    )


def main(args: argparse.Namespace) -> None:
    """Run ``report``."""
    path = write_report(args.work_dirs, args.out, args.data_root)
    print(f'Report: {path} ({path.stat().st_size / 2**20:.1f} MiB)')


def write_report(
    work_dirs: Sequence[Path],
    out: Path | None = None,
    data_root: str | None = None,
) -> Path:
    """Write the page of runs.

    Args:
        work_dirs (Sequence[Path]): Their work dirs.
        out (Path, optional): The file; ``report.html`` in the first work dir
            by default.
        data_root (str, optional): Folder of the dataset.

    Returns:
        Path: The file.

    Raises:
        ReportError: A folder holds no run, or a package is missing.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ReportError(
            f'A report needs {" and ".join(missing)}: pip install '
            f'{" ".join(missing)}'
        )
    runs = [read_run_log(Path(folder)) for folder in work_dirs]
    depth, deepest = 1, max(len(run.folder.resolve().parts) for run in runs)
    while len({run.name for run in runs}) < len(runs) and depth < deepest:
        depth += 1
        for run in runs:
            run.name = '/'.join(run.folder.resolve().parts[-depth:])
    path = out or Path(work_dirs[0]) / 'report.html'
    if path.is_dir():
        raise ReportError(f"--out '{path}' is a folder: give a file.")
    parts = make_parts(runs, data_root)
    title = ', '.join(run.name for run in runs)
    try:
        os.makedirs(path.parent, exist_ok=True)
        write_text(path, render(title, parts))
    except OSError as error:
        raise ReportError(f"'{path}' cannot be written: {error}") from None
    return path
