"""Keep schedules: to the config at a resume, and to metrics that lack."""

import math
from typing import Any

from mmengine.hooks import Hook, ParamSchedulerHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmsmt.data.settings import list_metrics
from mmsmt.optim import list_schedulers
from mmsmt.registry import HOOKS

PROGRESS = (
    *('last_step', '_global_step', '_last_value', 'base_values'),
    *('best', 'num_bad_epochs', 'cooldown_counter'),
)
"""State of a scheduler that is no setting of it."""
SETTINGS = ('initial_lr', 'weight_decay', 'momentum', 'betas', 'nesterov')
"""Settings of a group of parameters."""


@HOOKS.register_module()
class ScheduleHook(Hook):
    """Hook that keeps a resumed run to its config's schedule.

    mmengine takes optimizer settings and schedules from the checkpoint, and
    drops what the config says now. Where they differ this hook takes the
    config's, computes the learning rate that they give at this point of the
    run, and logs both. Where an epoch has another number of iterations than
    before, the run is at the same part of it.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._groups: list[dict] = []
        self._changes: list[str] = []
        self._length: int | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the config's settings with those of the checkpoint."""
        wrapper = runner.optim_wrapper
        self._groups, self._changes, self._length = [], [], None
        if not runner._resume:
            return
        run = (checkpoint.get('meta') or {}).get('run') or {}
        self._length = run.get('length')
        single = not isinstance(wrapper, OptimWrapperDict)
        if not single or not isinstance(wrapper, OptimWrapper):
            return
        self._groups = [
            {key: group[key] for key in SETTINGS if key in group}
            for group in wrapper.optimizer.param_groups
        ]
        if 'optimizer' not in checkpoint:
            self._changes = ['the checkpoint has no state of the optimizer']
            return
        saved = checkpoint['optimizer'].get('param_groups', [])
        for key in SETTINGS:
            old = sorted({str(g[key]) for g in saved if key in g})
            new = sorted({str(g[key]) for g in self._groups if key in g})
            if old and new and old != new:
                self._changes.append(f'{key} {_join(old)} -> {_join(new)}')
        schedulers = runner.param_schedulers
        before = checkpoint.get('param_schedulers')
        if isinstance(schedulers, list) and isinstance(before, list):
            old = [_describe(state) for state in before]
            new = [_describe(s.state_dict()) for s in schedulers]
            self._changes += [
                f'schedule {a or "none"} -> {b or "none"}'
                for a, b in _pair(old, new)
                if a != b
            ]

    def before_train(self, runner: Runner) -> None:
        """Take the config's settings, if they differ."""
        self._find_place(runner)
        if not self._changes:
            return
        groups = runner.optim_wrapper.optimizer.param_groups
        for group, settings in zip(groups, self._groups):
            group.update(settings)
            group['lr'] = group.get('initial_lr', group['lr'])
        schedulers = runner.cfg.get('param_scheduler')
        if schedulers is not None:
            runner.param_schedulers = runner.build_param_scheduler(schedulers)
            _replay(runner)
        lr = max(group['lr'] for group in groups)
        runner.logger.warning(
            'The config differs from the checkpoint; the run goes on with the '
            f'config, at a learning rate of {lr:g}: '
            + '; '.join(self._changes)
        )

    def _find_place(self, runner: Runner) -> None:
        """Go to the same part of an epoch that has another length now."""
        loop = runner.train_loop
        if not self._length or not isinstance(loop, EpochBasedTrainLoop):
            return
        length = len(loop.dataloader)
        if length == self._length:
            return
        share = (loop._iter - loop._epoch * self._length) / self._length
        before = loop._iter
        loop._iter = loop._epoch * length + round(share * length)
        runner.logger.warning(
            f'An epoch had {self._length} iterations and has {length} now: '
            f'the run resumes at iteration {loop._iter} in place of {before}.'
        )


@HOOKS.register_module()
class SafeParamSchedulerHook(ParamSchedulerHook):
    """Hook that steps schedulers, also where a metric gives nothing.

    As long as a detector finds no object, COCO's metric returns no AP, and
    mmengine's hook ends the run if a scheduler follows it. Such a validation
    counts as one that was no better. A name that no metric has is an error,
    as in mmengine.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Step the schedulers that follow a metric."""
        if metrics is not None:
            self._known.update(metrics)
            names = list_metrics(runner.cfg) or ()
            worst = {
                one.monitor: math.inf if one.rule == 'less' else -math.inf
                for one in list_schedulers(runner.param_schedulers)
                if getattr(one, 'need_val_args', False)
                and (
                    not metrics
                    or one.monitor in self._known
                    or one.monitor in names
                )
            }
            metrics = {**worst, **metrics}
        super().after_val_epoch(runner, metrics)


def _replay(runner: Runner) -> None:
    """Step the schedulers to where the run is.

    Those that follow a metric begin anew: its course is not known.
    """
    schedulers = [
        scheduler
        for scheduler in runner.param_schedulers
        if not getattr(scheduler, 'need_val_args', False)
    ]
    by_iter = [s for s in schedulers if not s.by_epoch]
    for _ in range(runner.iter):
        for scheduler in by_iter:
            scheduler.step()
    by_epoch = [s for s in schedulers if s.by_epoch]
    for _ in range(runner.epoch):
        for scheduler in by_epoch:
            scheduler.step()


def _describe(state: dict[str, Any]) -> str:
    settings = {
        key: value
        for key, value in sorted(state.items())
        if key not in PROGRESS and not key.startswith('_')
    }
    return ', '.join(
        f'{key}={_plain(value)}' for key, value in settings.items()
    )


def _plain(value: Any) -> Any:
    """Return a counter of milestones as a list."""
    return sorted(value.elements()) if hasattr(value, 'elements') else value


def _pair(old: list[str], new: list[str]) -> list[tuple[str, str]]:
    length = max(len(old), len(new))
    old, new = (x + [''] * (length - len(x)) for x in (old, new))
    return list(zip(old, new))


def _join(values: list[str]) -> str:
    if len(values) == 1:
        return values[0]
    return f'{values[0]} to {values[-1]}'
