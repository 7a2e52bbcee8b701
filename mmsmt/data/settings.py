"""Check settings that would fail at the first checkpoint or evaluation."""

import difflib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner

from mmsmt.weights.reading import summarize

from .building import report_unknown
from .configured import (
    find_class,
    follows_metric,
    has_constructor,
    iter_evaluators,
    iter_schedulers,
    type_name,
)
from .findings import Findings

COCO_ITEMS = ('', '_50', '_75', '_s', '_m', '_l')
SEGMENTATION = {
    'mIoU': ('mIoU', 'mAcc', 'aAcc'),
    'mDice': ('mDice', 'mAcc', 'aAcc'),
    'mFscore': ('mFscore', 'mPrecision', 'mRecall', 'aAcc'),
}

MULTIPLIERS = (
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'dwconv_decay_mult',
    'dcn_offset_lr_mult',
    'flat_decay_mult',
    'bypass_duplicate',
)
"""Settings of mmengine's paramwise_cfg."""
FINETUNE = {'strict': 'To load the matching weights only: --finetune FILE.'}


def check_settings(cfg: Config, findings: Findings) -> None:
    """Check the arguments of hooks, and the metric of ``save_best``.

    Args:
        cfg (Config): The config.
        findings (Findings): Extended in place.
    """
    names = list_metrics(cfg) if cfg.get('val_evaluator') else None
    for place, hook in _iter_hooks(cfg):
        _check_arguments(place, hook, findings)
        if names is not None and hook.get('monitor'):
            _check_metric(place, 'monitor', hook['monitor'], names, findings)
    _check_plateau(cfg, names, findings)
    _check_multipliers(cfg, findings)
    _check_topk(cfg, findings)
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    wanted = hook.get('save_best')
    if not wanted:
        return
    where = 'default_hooks.checkpoint'
    if not (cfg.get('val_evaluator') and cfg.get('val_dataloader')):
        text = f'save_best={wanted!r}, and the config has no validation'
        findings.error(where, text, 'Remove save_best.')
        return
    for name in [wanted] if isinstance(wanted, str) else wanted:
        if names is not None and name != 'auto':
            _check_metric(where, 'save_best', name, names, findings)


def _check_metric(
    where: str, key: str, name: str, names: list[str], findings: Findings
) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1, 0.5)
        findings.error(
            where,
            f'{key}={name!r} is no metric of val_evaluator, which gives '
            f'{summarize(names, 6)}',
            f'Write {key}={(near or names)[0]!r}.',
        )


def _check_plateau(
    cfg: Config, names: list[str] | None, findings: Findings
) -> None:
    """Check the metric that ends a plateau."""
    for place, scheduler in iter_schedulers(cfg):
        if not follows_metric(scheduler):
            continue
        if not cfg.get('val_dataloader'):
            text = 'it waits for a validation, and the config has none'
            findings.error(place, text)
        elif names is not None:
            name = scheduler.get('monitor', 'loss')
            _check_metric(place, 'monitor', name, names, findings)


def _check_multipliers(cfg: Config, findings: Findings) -> None:
    """Check the names of paramwise_cfg, which mmengine does not."""
    wrapper = cfg.get('optim_wrapper') or {}
    if has_constructor(cfg):
        return
    given = wrapper.get('paramwise_cfg') or {}
    parts: list[tuple[str, dict, Sequence[str]]]
    parts = [('', given, MULTIPLIERS)]
    parts += [
        (f'.custom_keys.{key}', value, ('lr_mult', 'decay_mult'))
        for key, value in (given.get('custom_keys') or {}).items()
        if isinstance(value, dict)
    ]
    for place, settings, known in parts:
        for name in set(settings) - set(known):
            if place and not name.endswith('mult') and '_mul' not in name:
                continue  # an option of the optimizer's parameter group
            near = difflib.get_close_matches(name, known, 1)
            report = findings.error if near else findings.warn
            report(
                f'optim_wrapper.paramwise_cfg{place}',
                f'nothing reads {name!r}',
                f'Write {near[0]!r}.' if near else '',
            )


def _check_topk(cfg: Config, findings: Findings) -> None:
    """Check that a classifier has as many classes as a metric ranks."""
    model = cfg.get('model') or {}
    head = model.get('head')
    number = head.get('num_classes') if isinstance(head, dict) else None
    for split in ('val', 'test'):
        for evaluator in iter_evaluators(cfg, split):
            if type_name(evaluator) != 'Accuracy':
                continue
            topk = evaluator.get('topk') or 1
            most = topk if isinstance(topk, int) else max(topk)
            if isinstance(number, int) and most > number:
                findings.error(
                    f'{split}_evaluator',
                    f'topk is {topk!r}, and the model has {number} classes',
                    'Write topk=(1,).',
                )


def list_metrics(cfg: Config) -> list[str] | None:
    """List the metrics of the validation, None if a type is unknown."""
    names: list[str] = []
    for evaluator in iter_evaluators(cfg, 'val'):
        found = _metrics_of(evaluator)
        if found is None:
            return None
        default = {'CocoMetric': 'coco', 'Accuracy': 'accuracy'}
        prefix = evaluator.get('prefix') or default.get(type_name(evaluator))
        names += [f'{prefix}/{x}' if prefix else x for x in found]
    return names


def _metrics_of(evaluator: dict) -> list[str] | None:
    kind = type_name(evaluator)
    if kind == 'CocoMetric' and not evaluator.get('metric_items'):
        kinds = evaluator.get('metric', 'bbox')
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if evaluator.get('classwise') or not set(kinds) <= {'bbox', 'segm'}:
            return None
        return [f'{x}_mAP{item}' for x in kinds for item in COCO_ITEMS]
    if kind == 'Accuracy' and not evaluator.get('thrs'):
        topk = evaluator.get('topk', (1,))
        topk = [topk] if isinstance(topk, int) else topk
        return [f'top{k}' for k in topk]
    if kind == 'IoUMetric':
        kinds = evaluator.get('iou_metrics', ['mIoU'])
        if not set(kinds) <= set(SEGMENTATION):
            return None
        return [x for k in kinds for x in SEGMENTATION[k]]
    return None


def _iter_hooks(cfg: Config) -> Iterator[tuple[str, dict]]:
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, dict):
            yield f'default_hooks.{name}', hook
    for i, hook in enumerate(cfg.get('custom_hooks') or []):
        if isinstance(hook, dict):
            yield f'custom_hooks.{i}', hook


def _find_receiver(kind: Any, hook: dict) -> Any:
    """Return the function to which a hook passes other arguments on."""
    if kind is CheckpointHook:  # after the first epoch
        return Runner.save_checkpoint
    if not issubclass(kind, EMAHook):
        return None
    average = hook.get('ema_type', 'ExponentialMovingAverage')
    if isinstance(average, str):
        with MODELS.switch_scope_and_registry(None) as registry:
            average = registry.get(average)
    return average and average.__init__


def _check_arguments(place: str, hook: dict, findings: Findings) -> None:
    """Check that a hook takes the arguments that the config gives it."""
    kind = find_class(hook, HOOKS)
    if kind is None:
        findings.error(place, f'there is no hook {hook.get("type")!r}')
        return
    parameters = inspect.signature(kind.__init__).parameters
    names = set(parameters) - {'self'}
    if any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        receiver = _find_receiver(kind, hook)
        more = inspect.signature(receiver).parameters if receiver else {}
        if not more or any(p.kind == p.VAR_KEYWORD for p in more.values()):
            return
        names |= set(more)
    names.add('priority')
    report_unknown(place, hook, names, findings, remedies=FINETUNE)
