"""Train a detector, segmenter or classifier from a config."""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config

from mmsmt.data.files import check_data_files
from mmsmt.ops import operators_in_use
from mmsmt.optim import cpu_has_bf16

from .checking import check_data
from .checkpoints import read_safely
from .config import (
    LaunchError,
    add_common_arguments,
    load_config_of,
    require_whole_checkpoint,
)
from .cpu import fuse_optimizer
from .processes import build_runner, launched_rank
from .trial import try_validation


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
        '--no-trial',
        action='store_true',
        help='start without trying the validation on two batches',
    )


def main(args: argparse.Namespace) -> None:
    """Run ``train``."""
    cfg = load_config_of(args)
    prepare_training(
        cfg,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        resume=args.resume,
        finetune=args.finetune,
        check=not args.no_check,
    )
    runner = build_runner(cfg)
    if not args.no_trial:
        try_validation(runner)
    runner.train()


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
    if amp:
        _use_mixed_precision(cfg)
    if not torch.cuda.is_available():
        fuse_optimizer(cfg)
    if auto_scale_lr:
        _scale_learning_rate(cfg)
    _choose_checkpoint(cfg, resume, finetune)
    splits = ['train', 'val'] if cfg.get('val_dataloader') else ['train']
    check_data_files(cfg, [f'{split}_dataloader' for split in splits])
    if check:
        check_data(cfg, splits, cfg.get('load_from'))


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
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise LaunchError(
            '--auto-scale-lr needs auto_scale_lr.base_batch_size in the '
            'config: the batch that its learning rate is for.'
        )
    cfg.auto_scale_lr.enable = True
    # mmengine compares it with the batch of one iteration.
    accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
    cfg.auto_scale_lr.base_batch_size /= accumulate


def _choose_checkpoint(
    cfg: Config, resume: str | None, finetune: str | None
) -> None:
    """Set the checkpoint to start from, and protect an earlier run."""
    last = Path(cfg.work_dir, 'last_checkpoint')
    if resume == 'auto' and last.is_file():
        cfg.resume, cfg.load_from = True, None
    elif resume and resume != 'auto':
        if not Path(resume).is_file():
            raise LaunchError(f"There is no checkpoint '{resume}' to resume.")
        cfg.resume, cfg.load_from = True, resume
    elif finetune:
        cfg.resume, cfg.load_from = False, finetune
        require_whole_checkpoint(cfg, False)
    if resume == 'auto' and not last.is_file() and launched_rank() == 0:
        print(
            f"There is no checkpoint in '{cfg.work_dir}' to resume: the run "
            f'starts from {cfg.get("load_from") or "the beginning"}.'
        )
    if cfg.get('load_from'):
        cfg.load_from = read_safely(cfg.load_from)
    if last.is_file() and not cfg.get('resume'):
        raise LaunchError(
            f"'{cfg.work_dir}' holds a run already, up to "
            f'{Path(last.read_text().strip()).name}. Use --resume to '
            'resume it, or another --work-dir.'
        )
