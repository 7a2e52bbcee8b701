"""Record memory and open files of a long training run.

    mmsmt soak --out work_dirs/soak

Trains the detector of the demo on small scenes for --iterations, with two
loader workers, and validates and saves it on the way. The resident memory of
the processes and their open files are recorded every few seconds in
OUT/soak.csv, and summarized: after the first 200 iterations they must not grow
by more than 2 %.

Needs psutil. 2,000 iterations take about ten minutes on two cores.
"""

import argparse
import contextlib
import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mmsmt.data import digits
from mmsmt.errors import UserError
from mmsmt.paths import configs_dir

WARM_UP = 200
"""Iterations after which nothing may grow."""
LIMIT = 0.02
"""Growth that is allowed."""
CONFIG = """_base_ = ['{base}']
train_cfg = dict(
    _delete_=True,
    type='IterBasedTrainLoop',
    max_iters={iterations},
    val_interval={interval},
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50)
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler'),
)
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(
        by_epoch=False,
        interval={interval},
        max_keep_ckpts=1,
        save_best='coco/bbox_mAP',
    ),
)
"""


class Sample(NamedTuple):
    """Hold the memory and open files of a run's processes at one moment.

    Args:
        iteration (int): Iterations that are finished.
        main (float): Memory of the main process, in MiB.
        workers (float): Memory of the largest loader worker, in MiB.
        files (int): Open files of all.
        processes (int): Number of processes.
    """

    iteration: int
    main: float
    workers: float
    files: int
    processes: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``soak``."""
    parser.add_argument('--iterations', type=int, default=2000)
    parser.add_argument(
        '--interval',
        type=int,
        default=200,
        help='iterations between two validations, and two checkpoints',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/soak'))


def main(args: argparse.Namespace) -> None:
    """Run ``soak``."""
    work_dir = args.out / 'run'
    if work_dir.exists():
        raise UserError(f"'{work_dir}' exists. Use another --out.")
    if find_spec('psutil') is None:
        raise UserError('A soak needs psutil: pip install psutil')
    data = args.out / 'data'
    try:
        digits.write('coco', data, 64, 8, size=(64, 64))
    except FileExistsError as error:
        raise UserError(f'{error} (Its folder is that of --out.)') from None
    samples = list(_train(args, data, work_dir))
    with open(args.out / 'soak.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(Sample._fields)
        writer.writerows(samples)
    lines = summarize(samples)
    print('\n'.join(lines))
    if failed := sum(line.endswith('FAILED') for line in lines):
        raise UserError(f'{failed} of them grow.')


def _train(
    args: argparse.Namespace, data: Path, work_dir: Path
) -> Iterator[Sample]:
    """Train, and yield samples; end the training if they are not taken."""
    import psutil

    config = args.out / 'soak.py'
    config.write_text(
        CONFIG.format(
            base=configs_dir().resolve() / 'demo/mask_rcnn_smt_t_digits.py',
            iterations=args.iterations,
            interval=args.interval,
        )
    )
    line = [sys.executable, '-m', 'mmsmt', 'train', config]
    line += ['--data-root', data, '--work-dir', work_dir]
    with open(args.out / 'train.log', 'w') as log:
        process = subprocess.Popen(
            [str(part) for part in line], stdout=log, stderr=log
        )
    watched = psutil.Process(process.pid)
    try:
        while process.poll() is None:
            time.sleep(2)
            done = _iterations(work_dir)
            with contextlib.suppress(psutil.NoSuchProcess):  # one just ended
                if done:
                    yield _take(watched, done)
    finally:
        process.terminate()
        process.wait()
    if process.returncode:
        raise UserError(f"The training failed: '{args.out / 'train.log'}'.")


def _iterations(work_dir: Path) -> int:
    """Return the last iteration that is logged."""
    for path in work_dir.glob('*/vis_data/scalars.json'):
        steps = path.read_text().rpartition('"step": ')[2]
        return int(steps.partition('}')[0] or 0)
    return 0


def _take(process: object, iteration: int) -> Sample:
    """Read what a process and its loader's workers hold."""
    everyone = [process, *process.children(recursive=True)]  # type: ignore
    memory = [p.memory_info().rss / 2**20 for p in everyone]
    return Sample(
        iteration,
        memory[0],
        max(memory[1:], default=0.0),
        sum(p.num_fds() for p in everyone),
        len(everyone),
    )


def summarize(samples: list[Sample]) -> list[str]:
    """Compare the second half of the time after the warm-up with the first.

    Validation and saving take memory for moments; their peaks are compared,
    as they recur.

    Args:
        samples (list[Sample]): In the order of time.

    Returns:
        list[str]: A line for each value.

    Raises:
        UserError: There are too few samples after the warm-up.
    """
    late = [sample for sample in samples if sample.iteration >= WARM_UP]
    if len(late) < 20:
        raise UserError(
            f'The run has {len(late)} samples after iteration {WARM_UP}: take '
            'more --iterations.'
        )
    half = len(late) // 2
    lines = []
    for name in Sample._fields[1:]:
        first, second = (
            max(getattr(sample, name) for sample in part)
            for part in (late[:half], late[half:])
        )
        growth = second / first - 1 if first else 0.0
        verdict = 'FAILED' if growth > LIMIT else 'flat'
        lines.append(
            f'{name:10s} {first:8.1f}, then {second:8.1f} '
            f'({growth:+.1%})  {verdict}'
        )
    return lines
