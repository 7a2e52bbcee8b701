"""Build the small parts of a config, which fail within a run otherwise."""

import copy
import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import (
    DATASETS,
    LOOPS,
    METRICS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    Registry,
)

from .configured import (
    SPLITS,
    find_class,
    has_constructor,
    iter_evaluators,
    iter_schedulers,
    type_name,
)
from .findings import Findings

WRONG = (AssertionError, KeyError, TypeError, ValueError)
"""Errors of a class that is given wrong arguments."""
TRIPLES = {
    'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'val': ('val_dataloader', 'val_cfg', 'val_evaluator'),
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}
"""Settings that mmengine requires all or none of."""
LOOP_TYPES = {
    'train': 'EpochBasedTrainLoop',
    'val': 'ValLoop',
    'test': 'TestLoop',
}
"""Loops of configs that name none."""
GIVEN = {'self', 'runner', 'dataloader', 'evaluator'}
"""Arguments of a loop that are not in the config."""
SPECIFIC = ('SGD', 'Adam', 'AdamW')
"""Optimizers that a parameter is enough to build."""


def check_parts(
    cfg: Config, findings: Findings, splits: Iterable[str] = SPLITS
) -> None:
    """Build optimizer, schedulers, datasets and transforms; check the others.

    Args:
        cfg (Config): The config.
        findings (Findings): Extended in place.
        splits (Iterable[str]): Those of ``train``, ``val``, ``test`` that
            are used.
    """
    for split, keys in TRIPLES.items():
        absent = [key for key in keys if cfg.get(key) is None]
        if absent and len(absent) < len(keys):
            findings.error(
                absent[0],
                f'it is None or absent, and {" and ".join(keys)} belong '
                'together',
                f'Set all of them, or all to None for no {split}.'
                if split != 'train'
                else 'Set all of them.',
            )
    for split in splits:
        _check_loop(split, cfg.get(f'{split}_cfg'), findings)
        for evaluator in iter_evaluators(cfg, split):
            place = f'{split}_evaluator'
            if 'metrics' not in evaluator:  # else it has an own class
                _check_signature(place, evaluator, METRICS, findings)
            for metric in evaluator.get('metrics') or ():
                if isinstance(metric, Mapping):
                    _check_signature(place, metric, METRICS, findings)
        loader = cfg.get(f'{split}_dataloader') or {}
        place = f'{split}_dataloader.dataset'
        for where, dataset in _iter_all(place, loader.get('dataset')):
            _check_dataset(where, dataset, findings)
    if 'train' in splits:
        _check_optimization(cfg, findings)


def _check_optimization(cfg: Config, findings: Findings) -> None:
    optimizer = _build_optimizer(cfg, findings)
    for place, settings in iter_schedulers(cfg):
        _try(
            place,
            settings,
            PARAM_SCHEDULERS,
            findings,
            default_args=dict(optimizer=optimizer, epoch_length=1),
        )


def _build_optimizer(cfg: Config, findings: Findings) -> Any:
    """Build the optimizer for one parameter, or another in its place."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    default = torch.optim.SGD([parameter], lr=0.1)
    settings = (cfg.get('optim_wrapper') or {}).get('optimizer')
    if not isinstance(settings, Mapping):
        return default
    kind = find_class(settings, OPTIMIZERS)
    if kind is None or not isinstance(settings.get('lr', 0.1), (int, float)):
        return default  # reported elsewhere
    known = any(base.__name__ in SPECIFIC for base in kind.__mro__)
    if not known or has_constructor(cfg):  # which may take arguments out
        return default
    built = _try(
        'optim_wrapper.optimizer',
        settings,
        OPTIMIZERS,
        findings,
        default_args=dict(params=[parameter]),
    )
    return built or default


def _check_dataset(place: str, dataset: Any, findings: Findings) -> None:
    if find_class(dataset) is None:
        return  # reported elsewhere
    _check_signature(place, dataset, DATASETS, findings)
    for where, step in _iter_steps(f'{place}.pipeline', dataset):
        if find_class(step, TRANSFORMS) is None:
            findings.error(
                where,
                f'there is no transform {step.get("type")!r}',
                'Correct its name, or import its module: '
                "custom_imports=dict(imports=['MODULE'])",
            )
        else:
            _try(where, step, TRANSFORMS, findings)


def _iter_all(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield datasets and those that they wrap."""
    if isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _iter_all(f'{place}.{number}', item)
    elif isinstance(value, Mapping):
        yield place, value
        for key in ('dataset', 'datasets'):
            yield from _iter_all(f'{place}.{key}', value.get(key))


def _iter_steps(place: str, dataset: Any) -> Iterator[tuple[str, Any]]:
    for number, step in enumerate(dataset.get('pipeline') or []):
        if isinstance(step, Mapping) and step.get('type'):
            yield f'{place}.{number}', step


def _try(
    place: str,
    settings: Any,
    registry: Registry,
    findings: Findings,
    default_args: dict | None = None,
) -> Any:
    """Build something, and report what its class says of its arguments."""
    if find_class(settings, registry) is None:
        return None
    try:
        return registry.build(
            copy.deepcopy(settings), default_args=default_args
        )
    except WRONG as error:
        findings.error(f'{place} ({type_name(settings)})', _first_line(error))
    except Exception:  # noqa: BLE001 - such as a package that is missing
        pass
    return None


def _first_line(error: Exception) -> str:
    text = str(error.args[0] if error.args else error)
    return f'{type(error).__name__}: {text.splitlines()[0] if text else ""}'


def _check_loop(split: str, loop: Any, findings: Findings) -> None:
    if not isinstance(loop, Mapping) or not loop:
        return
    settings = dict(loop)
    if not loop.get('type'):
        by_epoch = settings.pop('by_epoch', True)
        settings['type'] = LOOP_TYPES[split]
        if split == 'train' and not by_epoch:
            settings['type'] = 'IterBasedTrainLoop'
    _check_signature(f'{split}_cfg', settings, LOOPS, findings)


def _check_signature(
    place: str, settings: Any, registry: Registry, findings: Findings
) -> None:
    """Check the names of the arguments of what is not built here."""
    kind = find_class(settings, registry)
    if kind is None:
        findings.error(place, f'there is no {settings.get("type")!r}')
        return
    names = list_arguments(kind)
    if names is not None:
        listing = f'It has {", ".join(sorted(names))}.'
        report_unknown(place, settings, names, findings, listing)


def report_unknown(
    place: str,
    settings: Mapping,
    names: Iterable[str],
    findings: Findings,
    otherwise: str = '',
    remedies: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Report settings that are no argument of their class.

    Args:
        place (str): Key of the settings.
        settings (Mapping): The settings, with ``type``.
        names (Iterable[str]): Arguments of the class.
        findings (Findings): Extended in place.
        otherwise (str): Remedy where no argument has a similar name.
        remedies (Mapping[str, str]): Remedies by the setting's name.
    """
    for name in set(settings) - set(names) - {'type', '_scope_'}:
        near = difflib.get_close_matches(name, sorted(names), 1)
        findings.error(
            place,
            f'{type_name(settings)} has no argument {name!r}',
            remedies.get(name)
            or (f'Write {near[0]!r}.' if near else otherwise),
        )


def list_arguments(kind: Any) -> set[str] | None:
    """Return the arguments of a class, and those it passes on to bases.

    Returns:
        set[str] | None: None if they are not known.
    """
    names: set[str] = set()
    for base in getattr(kind, '__mro__', ()):
        if '__init__' not in vars(base) or base is object:
            continue
        parameters = inspect.signature(base.__init__).parameters
        names |= set(parameters)
        if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
            return names - GIVEN
    return None
