"""Find shipped models by name, in the hosts' inferencers and hub."""

import sys
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.fileio import load
from mmengine.runner.checkpoint import CheckpointLoader

from mmsmt.paths import configs_dir
from mmsmt.weights import CheckpointError

NOT_RELEASED = 'mmsmt-not-released://'
"""Scheme of the weights of models whose weights were not released."""


def extend_hosts() -> None:
    """Make the hosts find shipped models by name, once they are imported."""
    CheckpointLoader.register_scheme(
        prefixes=NOT_RELEASED, loader=_refuse, force=True
    )
    _call_when_imported('mmengine.infer.infer', _extend_inferencers)
    _call_when_imported('mmpretrain.apis.model', _extend_hub)


def iter_models(host: str) -> Iterator[dict[str, Any]]:
    """Yield the shipped models of a host, as its metafile describes them.

    ``Config`` is absolute. ``Weights`` of a model that was not released is an
    address that only raises an error.

    Args:
        host (str): ``mmdet``, ``mmseg`` or ``mmpretrain``.
    """
    path = _metafile(host)
    for model in load(path)['Models'] if path.is_file() else ():
        model['Config'] = str(_home() / model['Config'])
        model.setdefault('Weights', NOT_RELEASED + model['Name'])
        yield model


def _home() -> Path:
    return configs_dir().parents[1]


def _metafile(host: str) -> Path:
    return configs_dir() / 'metafiles' / f'{host}.yml'


def _extend_inferencers(module: ModuleType) -> None:
    """Extend mmengine's search of metafiles."""
    inferencer = module.BaseInferencer
    find_folder = inferencer._get_repo_or_mim_dir
    read = inferencer._get_models_from_metafile
    hosts: dict[str, str] = {}

    def find_folder_of(scope: str) -> str:
        folder = find_folder(scope)
        hosts[str(folder)] = scope
        return folder

    def read_with_ours(folder: str) -> Iterator[dict]:
        yield from read(folder)
        yield from iter_models(hosts.get(str(folder), ''))

    inferencer._get_repo_or_mim_dir = staticmethod(find_folder_of)
    inferencer._get_models_from_metafile = staticmethod(read_with_ours)


def _extend_hub(module: ModuleType) -> None:
    """Register shipped classifiers with mmpretrain."""
    path = _metafile('mmpretrain')
    if path.is_file():
        module.ModelHub.register_model_index(path, config_prefix=_home())
    for model in iter_models('mmpretrain'):
        module.ModelHub._models_dict[model['Name']].weights = model['Weights']


def _refuse(filename: str, map_location: Any = None) -> dict:
    """Raise an error for weights that do not exist.

    Raises:
        CheckpointError: Always.
    """
    name = filename.removeprefix(NOT_RELEASED)
    raise CheckpointError(
        f"No weights were released for '{name}': the authors released those "
        'of ImageNet classifiers only. Give the file of a trained model.'
    )


def _call_when_imported(
    name: str, function: Callable[[ModuleType], None]
) -> None:
    if name in sys.modules:
        function(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, function))


class _Finder(MetaPathFinder):
    """Finder of a module that calls a function when it is loaded."""

    def __init__(
        self, name: str, function: Callable[[ModuleType], None]
    ) -> None:
        self.name, self.function = name, function

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> ModuleSpec | None:
        """Return a spec for the module, and None for others."""
        spec = PathFinder.find_spec(name, path) if name == self.name else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_call(module: ModuleType) -> None:
            execute(module)
            self.function(module)

        spec.loader.exec_module = (  # type: ignore[method-assign]
            execute_and_call
        )
        return spec
