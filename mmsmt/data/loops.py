"""Check that a run trains, validates, saves and follows its schedule."""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.registry import OPTIMIZERS

from .configured import (
    count_repeats,
    find_class,
    follows_metric,
    iter_schedulers,
    list_heads,
    type_name,
)
from .findings import Findings

SAVING = 'default_hooks.checkpoint'
FIT = 'Fit end and milestones to the length of the run.'
SLACK = 1.01
"""A schedule may end this much later or earlier than the run."""
CONSTANT = ('ConstantLR', 'LinearLR')
"""Schedules after which a constant learning rate is meant."""
POOLING = (
    'UPerHead',
    'PSPHead',
    'ASPPHead',
    'DepthwiseSeparableASPPHead',
)
"""Heads that normalize a map of one pixel, and need two images for it."""
ENDLESS = (
    'InfiniteSampler',
    'InfiniteGroupBatchSampler',
    'InfiniteBatchSampler',
    'MultiSourceSampler',
)
"""Samplers that never end an epoch."""


def check_loops(
    cfg: Config, findings: Findings, images: int | None = None
) -> None:
    """Check a config's loop, its checkpoints, optimizer and schedulers.

    Args:
        cfg (Config): The config.
        findings (Findings): Extended in place.
        images (int, optional): Number of training images in its files.
    """
    loop = cfg.get('train_cfg') or {}
    if not {'max_epochs', 'max_iters'} & set(loop):
        return  # no training, or a loop of the user's
    counts_epochs = loop.get('by_epoch', 'max_epochs' in loop)
    key = 'max_epochs' if counts_epochs else 'max_iters'
    total: Any = loop.get(key)
    if not _is_count(total):
        report = findings.warn if total == 0 else findings.error
        remedy = f'Write a whole number, 1 or more: {key}=12'
        report('train_cfg', f'{key} is {total!r}: nothing is trained', remedy)
        return
    validates = cfg.get('val_dataloader') and cfg.get('val_cfg')
    interval = loop.get('val_interval', 1)
    if validates and not (isinstance(interval, (int, float)) and interval > 0):
        findings.error(
            'train_cfg',
            f'val_interval is {interval!r}, and the loop divides by it',
            'To validate at the end only, write a large number.',
        )
    _check_optimizer(cfg, findings)
    _check_saving(cfg, total, counts_epochs, findings)
    steps = count_iterations(cfg, images) if images else None
    _check_single_images(cfg, images, findings)
    if counts_epochs:
        _check_sampler(cfg, findings)
        if steps == 0:
            findings.error(
                'train_dataloader',
                f'drop_last drops all {images} images: they are less than a '
                'batch',
                'Lower batch_size, or write drop_last=False.',
            )
            return
    _check_schedule(cfg, total, counts_epochs, steps, findings)


def count_iterations(cfg: Config, images: int) -> int | None:
    """Return the iterations of an epoch, None if they are not known.

    Args:
        cfg (Config): The config.
        images (int): Number of training images in its files.
    """
    share = count_share(cfg, images)
    if share is None:
        return None
    loader = cfg.train_dataloader
    if loader.get('drop_last'):
        return share // loader.batch_size
    return math.ceil(share / loader.batch_size)


def count_share(cfg: Config, images: int) -> int | None:
    """Return the images of an epoch in a process, None if not known.

    Args:
        cfg (Config): The config.
        images (int): Number of training images in its files.
    """
    loader = cfg.get('train_dataloader') or {}
    dataset = loader.get('dataset') or {}
    while dataset.get('dataset'):
        if type_name(dataset) not in ('RepeatDataset', 'MultiImageMixDataset'):
            return None
        dataset = dataset['dataset']
    images *= count_repeats(cfg, dataset)
    batch_sampler = loader.get('batch_sampler') or {}
    whole = not dataset.get('datasets') and dataset.get('indices') is None
    if (
        not whole
        or not _is_count(loader.get('batch_size'))
        or type_name(loader.get('sampler') or {}) != 'DefaultSampler'
        or batch_sampler.get('drop_last')
    ):
        return None
    return math.ceil(images / get_world_size())


def _check_single_images(
    cfg: Config, images: int | None, findings: Findings
) -> None:
    """Check that no batch of a head with pooling has one image only."""
    for head in list_heads(cfg.get('model') or {}, 'decode_head'):
        norm = type_name(head.get('norm_cfg') or {})
        scales = head.get('pool_scales', (1,))
        if type_name(head) not in POOLING or 1 not in scales:
            continue
        if 'BN' not in norm or norm == 'SyncBN' and get_world_size() > 1:
            continue
        loader = cfg.get('train_dataloader') or {}
        batch = loader.get('batch_size')
        share = count_share(cfg, images) if images else None
        if batch == 1:
            text = 'batch_size is 1'
        elif (
            share
            and not loader.get('drop_last')
            and share % loader.batch_size == 1
        ):
            text = f'the last batch of {share} images has one'
        else:
            continue
        # With several processes SyncBN takes the values of all.
        report = findings.warn if norm == 'SyncBN' else findings.error
        report(
            'train_dataloader',
            f'{text}, and {type_name(head)} normalizes maps of one pixel, '
            'which takes two values or more'
            + (', of all processes' if norm == 'SyncBN' else ''),
            'Write batch_size=2, drop_last=True, or '
            "norm_cfg=dict(type='GN', num_groups=32) in the heads.",
        )


def _check_sampler(cfg: Config, findings: Findings) -> None:
    loader = cfg.get('train_dataloader') or {}
    for key in ('sampler', 'batch_sampler'):
        name = type_name(loader.get(key) or {})
        if name in ENDLESS:
            findings.error(
                f'train_dataloader.{key}',
                f'{name} never ends an epoch, and the loop counts epochs',
                "Write sampler=dict(type='DefaultSampler', shuffle=True).",
            )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _check_optimizer(cfg: Config, findings: Findings) -> None:
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer')
    if not isinstance(optimizer, Mapping):
        return  # several, or built by a constructor
    place = 'optim_wrapper.optimizer'
    kind = optimizer.get('type')
    if kind and find_class(optimizer, OPTIMIZERS) is None:
        findings.error(place, f'there is no optimizer {kind!r}')
    rate = optimizer.get('lr', 1)
    if isinstance(rate, str):
        findings.error(place, f'lr is the text {rate!r}, not a number')


def _check_saving(
    cfg: Config, total: int, counts_epochs: bool, findings: Findings
) -> None:
    """Warn if nothing is saved before the end of a run."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    template = hook.get('filename_tmpl') or '.pth'
    if not template.endswith('.pth'):
        findings.error(
            SAVING,
            f'filename_tmpl is {template!r}, and --resume finds *.pth',
            'Let it end in .pth.',
        )
    interval = hook.get('interval', -1)
    unit = 'epochs' if counts_epochs else 'iterations'
    if not counts_epochs and hook.get('by_epoch', True):
        text = 'it counts epochs, and the loop iterations'
        remedy = 'Write by_epoch=False, and interval in iterations.'
    elif counts_epochs and not hook.get('by_epoch', True):
        return  # the number of iterations is not known here
    elif total > 1 and not 1 <= interval <= total:
        text = f'interval is {interval}, of {total} {unit}'
        remedy = f'Write the number of {unit} between two checkpoints.'
    else:
        return
    findings.warn(
        SAVING, f'{text}: no checkpoint is saved before the end', remedy
    )


def _check_schedule(
    cfg: Config,
    total: int,
    counts_epochs: bool,
    steps: int | None,
    findings: Findings,
) -> None:
    """Compare the schedule of the learning rate with the run's length.

    Args:
        cfg (Config): The config.
        total (int): Epochs or iterations of the run.
        counts_epochs (bool): True for epochs.
        steps (int | None): Iterations of an epoch, if they are known.
        findings (Findings): Extended in place.
    """
    unit = 'epoch' if counts_epochs else 'iteration'
    ends = []
    for key, scheduler in iter_schedulers(cfg):
        name = type_name(scheduler)
        place = f'{key} ({name})'
        if scheduler.get('convert_to_iter_based') and not counts_epochs:
            continue  # by the length of an epoch
        by_epoch = scheduler.get('by_epoch', True)
        if follows_metric(scheduler):
            continue  # it counts validations
        if by_epoch and not counts_epochs:
            findings.error(
                place,
                'it counts epochs, and the loop iterations: it would do '
                'nothing before the end',
                'Write by_epoch=False, and its points in iterations.',
            )
        if counts_epochs and not by_epoch and steps:
            _check_iterations(place, scheduler, total * steps, findings)
        if by_epoch != counts_epochs or not name.endswith('LR'):
            continue
        end = scheduler.get('end', math.inf)
        ends.append((end, name, place))
        points = scheduler.get('milestones') or [end]
        late = [x for x in points if total * SLACK < x < math.inf]
        if late:
            findings.warn(
                place,
                f'{unit} {", ".join(map(str, late))} is never reached: the '
                f'run ends after {total}',
                FIT,
            )
    if not ends:
        return
    end, name, place = max(ends)
    if end * SLACK < total and name not in CONSTANT:
        findings.warn(
            place,
            f'it ends after {unit} {end}, the run after {total}: the learning '
            'rate stays at its lowest between them',
            FIT,
        )


def _check_iterations(
    place: str, scheduler: Mapping, total: int, findings: Findings
) -> None:
    """Warn if a schedule in iterations goes beyond a run of epochs."""
    end = scheduler.get('end', math.inf)
    points = [end, *(scheduler.get('milestones') or [])]
    late = [x for x in points if total * SLACK < x < math.inf]
    if not late:
        return
    begin = scheduler.get('begin', 0)
    share = max(0, total - begin) / max(1, max(late) - begin)
    findings.warn(
        place,
        f'iteration {", ".join(map(str, late))} is never reached: the run '
        f'has about {total}, {100 * share:.0f} % of it',
        'Write fewer iterations, or train for longer.',
    )
