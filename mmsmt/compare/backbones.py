"""Backbones by name, and how a config takes another one."""

import copy
import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope

from mmsmt.benchmark.rows import PEERS
from mmsmt.errors import UserError

TINY = dict(type='mmsmt.SMT', arch='tiny')
BACKBONES: dict[str, dict[str, Any]] = {
    'smt-t': TINY,
    'smt-s': dict(TINY, arch='small'),
    'smt-b': dict(TINY, arch='base'),
    # They return the stages that the config's backbone returns.
    **{
        name: {k: v for k, v in peer.items() if k != 'out_indices'}
        for name, peer in PEERS.items()
    },
    'pvtv2-b1': dict(PEERS['pvtv2-b2'], num_layers=[2, 2, 2, 2]),
    'smt-t-gn': dict(TINY, norm_cfg=dict(type='GN', num_groups=16)),
    # The paper's ablations, Tables 7 to 9.
    'smt-t-one-head': dict(TINY, arch=dict(base='tiny', sam_heads=1)),
    'smt-t-two-heads': dict(TINY, arch=dict(base='tiny', sam_heads=2)),
    'smt-t-eight-heads': dict(TINY, arch=dict(base='tiny', sam_heads=8)),
    'smt-t-no-saa': dict(TINY, arch=dict(base='tiny', aggregation='none')),
    'smt-t-all-sam': dict(TINY, arch=dict(base='tiny', stacking='sam')),
    'smt-t-all-msa': dict(TINY, arch=dict(base='tiny', stacking='msa')),
    'smt-t-halves': dict(TINY, arch=dict(base='tiny', stacking='halves')),
}
"""Settings by name, from scratch."""


class CompareError(UserError):
    """Error for a comparison that cannot be made."""


def find_backbones(
    names: Sequence[str], file: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the settings of backbones by name.

    Args:
        names (Sequence[str]): Of :data:`BACKBONES`, or of the file.
        file (str, optional): A config with ``backbones``, a dict of settings
            by name.

    Raises:
        CompareError: A name is unknown, or the file has no such dict.
    """
    known = dict(BACKBONES)
    if file:
        own = Config.fromfile(file).get('backbones')
        if not isinstance(own, dict):
            raise CompareError(
                f"'{file}' has no dict of backbones: backbones = "
                "dict(NAME=dict(type='mmdet.ResNet', depth=18), ...)"
            )
        known.update((k, ConfigDict(v).to_dict()) for k, v in own.items())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CompareError(
            f"There is no backbone '{unknown[0]}': choose among "
            f'{", ".join(known)}, or add it by --add FILE.'
        )
    if len(set(names)) < len(names):
        raise CompareError('A backbone is named twice.')
    return {name: known[name] for name in names}


def exchange_backbone(cfg: Config, backbone: dict[str, Any]) -> None:
    """Replace the backbone of a model, and the channels that others take.

    The new one returns the same stages, and has the old one's rate of
    stochastic depth if it has any.

    Args:
        cfg (Config): The config, changed in place.
        backbone (dict): Settings of the new backbone.

    Raises:
        CompareError: It cannot be built, or nothing takes its channels.
    """
    for host in ('mmdet', 'mmseg', 'mmpretrain'):
        if host == cfg.get('default_scope') or f"'{host}." in repr(backbone):
            importlib.import_module(f'{host}.models')
            imports = dict(cfg.get('custom_imports') or {})
            given = imports.get('imports') or []
            given = [given] if isinstance(given, str) else given
            if f'{host}.models' not in given:
                imports['imports'] = [*given, f'{host}.models']
                cfg.custom_imports = imports
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = cfg.model
    old = model.backbone
    new = copy.deepcopy(backbone)
    new.setdefault('out_indices', old.get('out_indices', (0, 1, 2, 3)))
    rate = old.get('drop_path_rate', 0.0)
    if _has_drop_path(new) and (rate or 'drop_path_rate' not in backbone):
        new['drop_path_rate'] = rate  # hosts have other defaults
    before = find_channels(dict(old, init_cfg=None))
    after = find_channels(new)
    if len(before) != len(after):
        raise CompareError(
            f"The config's backbone returns {len(before)} maps, and {new} "
            f'{len(after)}: give it out_indices.'
        )
    model.backbone = ConfigDict(new)
    if not _exchange_channels(model, before, after):
        raise CompareError(
            f'No part of the {model.type} takes the channels {before} of its '
            'backbone: in_channels has them nowhere.'
        )


def forget_weights(cfg: Config) -> list[str]:
    """Remove pretrained weights from a config; return what was removed.

    Args:
        cfg (Config): The config, changed in place.
    """
    removed = []
    if cfg.get('load_from'):
        removed.append(f'load_from={cfg.load_from!r}')
        cfg.load_from = None
    todo: list[Any] = [('model', cfg.model)]
    while todo:
        where, part = todo.pop()
        items = part.items() if isinstance(part, dict) else enumerate(part)
        for key, value in list(items):
            if not isinstance(value, (dict, list, tuple)):
                continue
            name = f'{where}.{key}'
            kind = value.get('type') if isinstance(value, dict) else ''
            if key == 'init_cfg' and str(kind).endswith('Pretrained'):
                removed.append(f'{name}.checkpoint={value.checkpoint!r}')
                part[key] = None
            else:
                todo.append((name, value))
    return removed


def find_channels(backbone: dict[str, Any]) -> list[int]:
    """Return the channels of the maps that a backbone returns.

    Raises:
        CompareError: It cannot be built, or returns something else.
    """
    try:
        built = MODELS.build(copy.deepcopy(backbone))
        built.eval()  # mmdet's return nothing
        images = torch.zeros(1, backbone.get('in_channels', 3), 64, 64)
        with torch.no_grad():
            maps = built(images)
        return [int(one.shape[1]) for one in maps]
    except Exception as error:  # of any backbone
        raise CompareError(
            f'The backbone {backbone} cannot be used: '
            f'{type(error).__name__}: {error}'
        ) from error


def _has_drop_path(backbone: dict[str, Any]) -> bool:
    kind = MODELS.get(backbone['type'])
    return any(  # a subclass may have them as **kwargs
        'drop_path_rate' in inspect.signature(base).parameters
        for base in getattr(kind, '__mro__', ())[:-1]
    )


def _exchange_channels(model: Any, old: list[int], new: list[int]) -> int:
    """Replace ``in_channels`` outside the backbone; return their number."""
    count = 0
    todo: list[Any] = [v for k, v in model.items() if k != 'backbone']
    while todo:
        part = todo.pop()
        if isinstance(part, (list, tuple)):
            todo.extend(part)
        if not isinstance(part, dict):
            continue
        todo.extend(part.values())
        given, index = part.get('in_channels'), part.get('in_index')
        if isinstance(given, (list, tuple)) and list(given) == old:
            part['in_channels'] = list(new)
        elif isinstance(index, int) and given == old[index]:
            part['in_channels'] = new[index]
        elif given == old[-1] and 'Classifier' in str(model.type):
            part['in_channels'] = new[-1]
        else:
            continue
        count += 1
    return count


def count_parameters(cfg: Config) -> float:
    """Return the parameters of a config's model, in millions."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = MODELS.build(copy.deepcopy(cfg.model))
    return sum(p.numel() for p in model.parameters()) / 1e6
