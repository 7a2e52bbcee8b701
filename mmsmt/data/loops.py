"""Check that a run trains, validates, saves and follows its schedule."""

import math
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import OPTIMIZERS

from .configured import find_class, type_name
from .findings import Findings

SAVING = 'default_hooks.checkpoint'
FIT = 'Fit end and milestones to the length of the run.'
SLACK = 1.01
"""A schedule may end this much later or earlier than the run."""
CONSTANT = ('ConstantLR', 'LinearLR')
"""Schedules after which a constant learning rate is meant."""


def check_loops(cfg: Config, findings: Findings) -> None:
    """Check a config's loop, its checkpoints, optimizer and schedulers.

    Args:
        cfg (Config): The config.
        findings (Findings): Extended in place.
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
    if validates and not _is_count(interval):
        findings.error(
            'train_cfg',
            f'val_interval is {interval!r}, and the loop divides by it',
            'To validate at the end only, write a large number.',
        )
    _check_optimizer(cfg, findings)
    _check_saving(cfg, total, counts_epochs, findings)
    _check_schedule(cfg, total, counts_epochs, findings)


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
    cfg: Config, total: int, counts_epochs: bool, findings: Findings
) -> None:
    """Compare the schedule of the learning rate with the run's length."""
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, Mapping):
        schedulers = [schedulers]
    unit = 'epoch' if counts_epochs else 'iteration'
    ends = []
    for number, scheduler in enumerate(schedulers):
        name = type_name(scheduler)
        place = f'param_scheduler.{number} ({name})'
        by_epoch = scheduler.get('by_epoch', True)
        if by_epoch and not counts_epochs:
            findings.error(
                place,
                'it counts epochs, and the loop iterations: it would do '
                'nothing before the end',
                'Write by_epoch=False, and its points in iterations.',
            )
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
