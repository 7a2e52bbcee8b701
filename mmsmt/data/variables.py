"""Find settings of a config that nothing reads."""

import ast
import difflib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmsmt.weights.reading import summarize

from .configured import iter_datasets
from .findings import Findings

READ = {*inspect.signature(Runner.__init__).parameters} - {
    'self',
    'cfg',
    'launcher',
} | {
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'strategy',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}
"""Settings at the top of a config that mmengine and the tools read."""
BEFORE = {
    'checkpoint_config': 'default_hooks.checkpoint',
    'cudnn_benchmark': 'env_cfg.cudnn_benchmark',
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'dist_params': 'env_cfg.dist_cfg',
    'evaluation': 'val_evaluator, train_cfg.val_interval and '
    'default_hooks.checkpoint.save_best',
    'fp16': 'the option --amp',
    'log_config': 'default_hooks.logger',
    'launcher': 'the option --launcher',
    'lr_config': 'param_scheduler',
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'resume_from': 'the option --resume FILE',
    'runner': 'train_cfg',
    'seed': 'randomness.seed',
    'total_epochs': 'train_cfg.max_epochs',
}
"""Settings of mmcv 1 and mmdet 2, and what took their place."""
MOST = 3
"""Places that a message names."""


def explain_option(cfg: Config, key: str) -> tuple[str, bool]:
    """Say why an option that overrides a setting would have no effect.

    Args:
        cfg (Config): The config, before the option is applied.
        key (str): The setting, such as ``train_cfg.max_epochs``.

    Returns:
        tuple[str, bool]: The reason and what to write, '' if it has an effect;
        and whether that is certain: code of one's own may read any setting.
    """
    root = key.split('.')[0]
    if root in READ:
        return '', True
    if root in BEFORE:
        return f'nothing reads {key}: it is {BEFORE[root]} now', True
    if root == 'data_root':
        return f'nothing reads {key}: give --data-root DIR', True
    if root == 'custom_imports':
        return 'modules are imported before: write it into the file', True
    places = [place for place, _ in find_places(cfg, root)]
    if root not in cfg and places:
        return f'nothing reads {key}: set {summarize(places, MOST)}', True
    if root not in cfg:
        near = difflib.get_close_matches(root, sorted(READ), 1)
        if near:
            return f'nothing reads {key}: did you mean {near[0]}?', True
        return f'neither the config nor mmengine has {root}', False
    text = f'{root} is a variable of the config, which was read before'
    if places:
        return f'{text}: set {summarize(places, MOST)}', True
    return f'{text}: what was made of it keeps its value', False


def find_places(cfg: Config, name: str) -> list[tuple[str, Any]]:
    """Return the settings that mmengine reads and that have a name.

    Args:
        cfg (Config): The config.
        name (str): The name of a variable; of ``train_pipeline``, those of
            the datasets.

    Returns:
        list[tuple[str, Any]]: Dotted keys and values.
    """
    split, _, kind = name.partition('_')
    if kind == 'pipeline':
        loader = f'{split}_dataloader'
        return [
            (f'{loader}.dataset.pipeline', dataset['pipeline'])
            for dataset in iter_datasets(cfg, loader)
            if 'pipeline' in dataset
        ]
    roots = [key for key in cfg if key in READ]
    return [
        found for key in roots for found in _iter_named(cfg[key], name, key)
    ]


def _iter_named(value: Any, name: str, place: str) -> Iterator[tuple]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == name:
                yield f'{place}.{key}', item
            yield from _iter_named(item, name, f'{place}.{key}')
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _iter_named(item, name, f'{place}.{number}')


def check_variables(cfg: Config, findings: Findings) -> None:
    """Report variables of a config's file that have no effect.

    A file with ``_base_`` may set a variable of its base, such as
    ``train_pipeline``, from which the base has already made its settings.

    Args:
        cfg (Config): The config.
        findings (Findings): Extended in place.
    """
    path = Path(cfg.filename or '')
    if path.suffix != '.py' or not path.is_file():
        return
    text = path.read_text(encoding='utf-8')
    tree = ast.parse(text)
    assigned = {
        target.id: node.lineno
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in getattr(node, 'targets', None) or [node.target]
        if isinstance(target, ast.Name)
    }
    derived = '_base_' in assigned or 'read_base()' in text
    used = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for name, line in assigned.items():
        if not derived or name in used or name in READ or name not in cfg:
            continue
        where = f'{path}, line {line}'
        near = difflib.get_close_matches(name, sorted(READ), 1, 0.85)
        places = find_places(cfg, name)
        if name in BEFORE:
            findings.warn(
                where, f'nothing reads {name}', f'It is {BEFORE[name]} now.'
            )
        elif places and not any(same(x, cfg[name]) for _, x in places):
            shown = [
                f'{place} is still {value!r}'
                if isinstance(value, (bool, int, float, str))
                else f'{place} is as before'
                for place, value in places[:MOST]
            ]
            findings.warn(
                where,
                f'{name} has no effect: {", ".join(shown)}',
                'Settings of the base are made before: set them again with '
                'the new value.',
            )
        elif near and not name.endswith('_pipeline'):
            findings.warn(
                where, f'nothing reads {name}', f'Did you mean {near[0]}?'
            )


def same(one: Any, other: Any) -> bool:
    """Return whether two settings are equal, as far as that can be told."""
    try:
        return bool(one == other)
    except ValueError:  # arrays
        return True
