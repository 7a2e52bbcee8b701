"""Find the datasets of a config, and change their folders."""

import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, Registry

from mmsmt.errors import UserError

SPLITS = ('train', 'val', 'test')
TASKS = {
    'mmdet': 'detection',
    'mmseg': 'segmentation',
    'mmpretrain': 'classification',
}
"""Tasks by ``default_scope``."""


def iter_datasets(cfg: Config, loader: str) -> Iterator[ConfigDict]:
    """Yield the settings of a loader's datasets, also inside wrappers.

    Args:
        cfg (Config): The config.
        loader (str): Name of the loader, such as ``train_dataloader``.
    """
    todo = [(cfg.get(loader) or {}).get('dataset')]
    while todo:
        dataset = todo.pop()
        if isinstance(dataset, (list, tuple)):
            todo.extend(dataset)
        elif isinstance(dataset, dict):
            inner = dataset.get('dataset') or dataset.get('datasets')
            if not inner or 'data_root' in dataset or 'ann_file' in dataset:
                yield dataset
            todo += [dataset.get('dataset'), dataset.get('datasets')]


def count_repeats(cfg: Config, dataset: ConfigDict) -> int:
    """Return how often an epoch has the images of a training dataset.

    Args:
        cfg (Config): The config.
        dataset (ConfigDict): One that :func:`iter_datasets` yields.
    """

    def search(part: Any, times: int) -> int:
        if part is dataset:
            return times
        if isinstance(part, (list, tuple)):
            return max((search(x, times) for x in part), default=0)
        if not isinstance(part, dict):
            return 0
        if type_name(part) == 'RepeatDataset':
            times *= part.get('times', 1)
        inner = part.get('dataset'), part.get('datasets')
        return max(search(x, times) for x in inner)

    loader = cfg.get('train_dataloader') or {}
    return search(loader.get('dataset'), 1) or 1


def is_local(dataset: ConfigDict) -> bool:
    """Check that a dataset is read from this machine's file system."""
    remote = '://' in str(dataset.get('data_root'))
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    return not remote and backend == 'local'


def iter_evaluators(cfg: Config, split: str) -> Iterator[ConfigDict]:
    """Yield the settings of the metrics of a split."""
    evaluators = cfg.get(f'{split}_evaluator') or []
    yield from [evaluators] if isinstance(evaluators, dict) else evaluators


def is_palette(value: Any) -> bool:
    """Check that a value is a list of colours, of three numbers each."""
    return isinstance(value, (list, tuple)) and all(
        isinstance(colour, (list, tuple))
        and len(colour) == 3
        and all(isinstance(x, int) and 0 <= x <= 255 for x in colour)
        for colour in value
    )


def find_loading(dataset: Mapping) -> list[ConfigDict]:
    """Return the steps of a dataset's pipeline that load annotations."""
    return [
        step
        for step in dataset.get('pipeline') or []
        if type_name(step) == 'LoadAnnotations'
    ]


def divides_datasets(evaluators: Any) -> bool:
    """Check for an evaluator that gives each dataset its own metric."""
    return isinstance(evaluators, dict) and 'dataset_prefixes' in evaluators


def follows_metric(scheduler: Mapping) -> bool:
    """Check for a scheduler that steps after validations, by a metric."""
    return type_name(scheduler).startswith('ReduceOnPlateau')


def iter_schedulers(cfg: Config) -> Iterator[tuple[str, ConfigDict]]:
    """Yield the keys and settings of schedulers, of several optimizers too."""
    todo = [('param_scheduler', cfg.get('param_scheduler'))]
    while todo:
        place, value = todo.pop(0)
        if isinstance(value, (list, tuple)):
            todo[:0] = [(f'{place}.{i}', x) for i, x in enumerate(value)]
        elif isinstance(value, Mapping) and value.get('type'):
            yield place, value
        elif isinstance(value, Mapping):
            todo[:0] = [(f'{place}.{key}', x) for key, x in value.items()]


def list_heads(model: Mapping, key: str) -> list[Mapping]:
    """Return a model's heads of a key: one, several or none."""
    heads = model.get(key) or []
    return list(heads) if isinstance(heads, (list, tuple)) else [heads]


def has_constructor(cfg: Config) -> bool:
    """Return whether another class than mmengine's builds the optimizer."""
    kind = (cfg.get('optim_wrapper') or {}).get('constructor')
    name = str(getattr(kind, '__name__', kind)).split('.')[-1]
    return kind is not None and name != 'DefaultOptimWrapperConstructor'


def find_class(cfg: Mapping, registry: Registry = DATASETS) -> Any:
    """Return the class of a config's ``type``, None if it is unknown.

    Args:
        cfg (Mapping): Settings of a dataset, or of what the registry builds.
        registry (Registry): The registry.
    """
    kind = cfg.get('type')
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(cfg.get('_scope_')) as scoped:
        return scoped.get(kind)


def build_lazily(dataset: ConfigDict) -> Any:
    """Build a dataset that has read nothing yet, without its pipeline."""
    settings = copy.deepcopy(dataset)
    settings.update(pipeline=[], lazy_init=True, test_mode=False)
    return DATASETS.build(settings)


def type_name(cfg: Mapping) -> str:
    """Return the bare name of a config's ``type``, a string or a class."""
    name = cfg.get('type')
    return str(getattr(name, '__name__', name)).split('.')[-1]


def require_one_root(cfg: Config) -> None:
    """Require that another ``data_root`` is possible and has one meaning.

    Args:
        cfg (Config): The config.

    Raises:
        UserError: The datasets have no ``data_root``, or several.
    """
    roots = {
        os.path.normpath(dataset['data_root'])
        for split in SPLITS
        for dataset in iter_datasets(cfg, f'{split}_dataloader')
        if dataset.get('data_root')
    }
    if not roots and not isinstance(cfg.get('data_root'), str):
        raise UserError(
            '--data-root replaces data_root, and no dataset of the config has '
            'one: set their paths by --cfg-options.'
        )
    if len(roots) > 1 and os.path.commonpath(roots) not in roots:
        raise UserError(
            '--data-root replaces one folder, and the datasets have '
            f'{", ".join(sorted(roots))}. Set each by --cfg-options, such as '
            'train_dataloader.dataset.data_root=DIR'
        )


def set_data_root(cfg: Config, root: str) -> None:
    """Replace every ``data_root``, in loaders and evaluators.

    Args:
        cfg (Config): The config, changed in place.
        root (str): The new folder.
    """
    old = {
        dataset['data_root'].rstrip('/')
        for split in SPLITS
        for dataset in iter_datasets(cfg, f'{split}_dataloader')
        if dataset.get('data_root')
    }
    if isinstance(cfg.get('data_root'), str):
        old.add(cfg.data_root.rstrip('/'))
    old.discard('')
    root = os.path.join(root, '')

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            for key, item in value.items():
                value[key] = move(item)
        elif isinstance(value, (list, tuple)):
            return type(value)(move(item) for item in value)
        elif isinstance(value, str):
            for prefix in sorted(old, key=len, reverse=True):
                if value == prefix:
                    return root
                if value.startswith(prefix + '/'):
                    return root + value[len(prefix) + 1 :]
        return value

    for split in SPLITS:
        for name in (f'{split}_dataloader', f'{split}_evaluator'):
            if cfg.get(name) is not None:
                cfg[name] = move(cfg[name])
    if 'data_root' in cfg:
        cfg.data_root = root
