"""Train a detector, segmenter or classifier from a config."""

import argparse
import contextlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.config import Config

from mmsmt.data.files import check_data_files
from mmsmt.ops import operators_in_use
from mmsmt.optim import cpu_has_bf16
from mmsmt.runs.collection import paused
from mmsmt.runs.kept import keep_content
from mmsmt.runs.lock import RunLock
from mmsmt.runs.signals import STOPPER
from mmsmt.runs.together import run_first
from mmsmt.weights import fetch_checkpoint

from .building import explain_building
from .checking import check_data
from .checkpoints import read_safely
from .config import (
    LaunchError,
    add_common_arguments,
    load_config_of,
    require_training,
    require_whole_checkpoint,
)
from .cpu import fuse_optimizer
from .processes import build_runner, connect_processes
from .ranks import launched_rank
from .starting import Start, choose_start, protect
from .tracking import TRACKERS, add_trackers
from .trial import TrialHook

LONGEST = 600
"""Seconds that a report may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``train``."""
    parser.add_argument('config', help='config file')
    add_common_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume a run; without a name, from the last checkpoint in the '
        'work dir',
    )
    parser.add_argument(
        '--finetune',
        metavar='CHECKPOINT',
        help='start from the matching weights of a trained model, and report '
        'the others; with --resume, only if there is nothing to resume',
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate from the recipe's batch to this run's",
    )
    parser.add_argument(
        '--tracker',
        nargs='+',
        default=(),
        choices=TRACKERS,
        help='also log to these experiment trackers, in the work dir',
    )
    parser.add_argument(
        '--no-trial',
        action='store_true',
        help='start without trying the validation on two batches',
    )
    parser.add_argument(
        '--no-report',
        action='store_true',
        help='end without writing report.html into the work dir',
    )


def main(args: argparse.Namespace) -> None:
    """Run ``train``."""
    cfg = load_config_of(args)
    add_trackers(cfg, args.tracker)
    with (
        STOPPER.installed(),
        paused(),
        keep_content(),
        contextlib.ExitStack() as stack,
    ):
        connect_processes(cfg)
        run_first(lambda: stack.enter_context(_lock(cfg)) and None)
        prepare_training(
            cfg,
            amp=args.amp,
            auto_scale_lr=args.auto_scale_lr,
            resume=args.resume,
            finetune=args.finetune,
            check=not args.no_check,
        )
        with explain_building(cfg):
            runner = build_runner(cfg)
            if not args.no_trial:
                runner.register_hook(TrialHook())
            runner.train()
    if not args.no_report:
        _write_report(cfg.work_dir)


def _write_report(work_dir: str) -> None:
    """Write the report of a finished run, in a process of its own.

    Whatever fails there does not fail the run.
    """
    wanted = os.environ.get('MMSMT_REPORT', '1') != '0'
    if launched_rank() or not wanted or not find_spec('plotly'):
        return
    command = [sys.executable, '-m', 'mmsmt', 'report', work_dir]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, timeout=LONGEST, check=False)


def prepare_training(
    cfg: Config,
    amp: bool = False,
    auto_scale_lr: bool = False,
    resume: str | None = None,
    finetune: str | None = None,
    check: bool = True,
) -> None:
    """Apply the options of training, and check checkpoints and data.

    Args:
        cfg (Config): The config, changed in place.
        amp (bool): Automatic mixed precision: on a GPU float16 with loss
            scaling, on a CPU bfloat16.
        auto_scale_lr (bool): Scale the learning rate to the batch.
        resume (str, optional): A checkpoint, or ``auto`` for the last one in
            the work dir.
        finetune (str, optional): A checkpoint whose matching weights are
            loaded, unless there is one to resume.
        check (bool): Check the contents of the datasets.

    Raises:
        LaunchError: A setting or the checkpoint to resume is missing, or the
            run would overwrite an earlier one.
        CheckpointError: A checkpoint cannot be read.
        DataError: A file of the datasets is missing, or they have faults.
    """
    if cfg.get('activation_checkpointing'):
        raise LaunchError(
            f'activation_checkpointing={cfg.activation_checkpointing!r} would '
            "train few of the parameters: mmengine's form stops gradients at "
            'inputs that need none. Use model.backbone.with_cp=True, which '
            'saves more.'
        )
    require_training(cfg)
    if amp:
        _use_mixed_precision(cfg)
    if not torch.cuda.is_available():
        fuse_optimizer(cfg)
    if auto_scale_lr:
        _scale_learning_rate(cfg)
    resume, finetune, load_from = map(
        _fetch, (resume, finetune, cfg.get('load_from'))
    )
    cfg.load_from = load_from
    start = run_first(lambda: _choose_start(cfg, resume, finetune, check))
    start.apply(cfg)
    if finetune and not start.resume:
        require_whole_checkpoint(cfg, False)
    protect(cfg)


def _fetch(checkpoint: str | None) -> str | None:
    """Fetch a checkpoint in all processes, if it is a URL."""
    if checkpoint and urlparse(checkpoint).scheme in ('http', 'https'):
        return str(fetch_checkpoint(checkpoint))
    return checkpoint


def _choose_start(
    cfg: Config, resume: str | None, finetune: str | None, check: bool
) -> Start:
    """Decide where the run starts, and check what it reads."""
    start = choose_start(cfg, resume, finetune)
    if start.load_from and not start.resume:  # which was read to choose it
        start = start._replace(load_from=read_safely(start.load_from))
    splits = ['train', 'val'] if cfg.get('val_dataloader') else ['train']
    check_data_files(cfg, [f'{split}_dataloader' for split in splits])
    if check:
        check_data(cfg, splits, start.load_from, resumed=start.resume)
    return start


def _lock(cfg: Config) -> RunLock:
    """Return the lock that keeps other runs out of the work dir.

    Raises:
        LaunchError: It is no folder, or another run trains there.
    """
    folder = Path(cfg.work_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"The work dir '{folder}' cannot be made: {error.strerror}. Use "
            'another --work-dir.'
        ) from None
    return RunLock(folder)


def _use_mixed_precision(cfg: Config) -> None:
    wrapper = cfg.optim_wrapper
    if torch.cuda.is_available():
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        # Attention and gradients may overflow in fp16, mmengine's default.
        # Compiled operators of mmcv have no bf16.
        compute_capability = torch.cuda.get_device_capability()
        if compute_capability >= (8, 0) and operators_in_use() != 'compiled':
            wrapper.setdefault('dtype', 'bfloat16')
        return
    wrapper.type = 'mmsmt.CPUAmpOptimWrapper'
    for key in ('loss_scale', 'dtype'):  # for GPUs only
        wrapper.pop(key, None)
    if not cpu_has_bf16() and launched_rank() == 0:
        print(
            '--amp: this CPU has no instructions for bfloat16, which is '
            'slower than float32 here.'
        )


def _scale_learning_rate(cfg: Config) -> None:
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise LaunchError(
            '--auto-scale-lr needs auto_scale_lr.base_batch_size in the '
            'config: the batch that its learning rate is for.'
        )
    cfg.auto_scale_lr.enable = True
    # mmengine compares it with the batch of one iteration.
    accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
    cfg.auto_scale_lr.base_batch_size /= accumulate
