"""Dry-run a config end to end on a sample of its data, or on digits.

    mmsmt rehearse configs/mask_rcnn_smt_s_1x.py

Prepare data and weights, train, kill and resume the run, validate, test, draw
pictures, and test with augmentation. Model, losses, optimizer,
pipelines, hooks and metric are the config's. The exit status is 0 if every
stage passed.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

from mmsmt.errors import UsageError
from mmsmt.launch import LaunchError, load_config
from mmsmt.launch.config import add_cfg_options, require_training

from .schedule import LENGTH
from .stages import Rehearsal, format_table

CPU_SCALE, CPU_BATCH = 0.25, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rehearse``."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--scale',
        type=float,
        help='factor of the image size (default: 1.0 on a GPU, '
        f'{CPU_SCALE} without one; twice that for models with queries)',
    )
    parser.add_argument(
        '--batch',
        type=int,
        help="maximum images per iteration (default: the config's, "
        f'without a GPU {CPU_BATCH})',
    )
    parser.add_argument(
        '--epochs',
        type=int,
        default=LENGTH,
        help=f'length of the schedule (default: {LENGTH})',
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )
    parser.add_argument(
        '--work-dir',
        help='a new folder (default: work_dirs/rehearsal/CONFIG/TIME)',
    )
    add_cfg_options(parser)


def main(args: argparse.Namespace) -> None:
    """Run ``rehearse``."""
    if args.epochs < 3:
        raise UsageError('--epochs must be at least 3: train, kill, resume')
    if args.scale is not None and not 0 < args.scale <= 4:
        raise UsageError('--scale must be above 0 and at most 4')
    if args.batch is not None and args.batch < 1:
        raise UsageError('--batch must be at least 1')
    start = time.strftime('%Y%m%d_%H%M%S')
    stem = Path(args.config).stem
    folder = Path(args.work_dir or f'work_dirs/rehearsal/{stem}/{start}')
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LaunchError(f"'{folder}' exists: give a new folder.")
    cfg = load_config(args.config, cfg_options=args.cfg_options)
    require_training(cfg)
    scale, batch = args.scale or 1.0, args.batch
    if not torch.cuda.is_available():
        queries = 2 if cfg.model.get('num_queries') else 1
        scale = args.scale or CPU_SCALE * queries
        batch = args.batch or CPU_BATCH
    rehearsal = Rehearsal(
        cfg, folder.resolve(), scale, args.epochs, batch, args.amp
    )
    print(rehearsal.differences(), flush=True)
    ok = rehearsal.run()
    print(f'\n{stem}')
    print(*format_table(rehearsal.stages), sep='\n')
    full = rehearsal.estimate()
    if full:
        print(full)
    print(f'Logs: {folder}')
    if not ok:
        sys.exit(1)
    rehearsal.clean()
