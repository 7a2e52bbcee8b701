"""Register mmsmt with mmengine, on ``import mmsmt``."""

import pickle
from collections.abc import Callable
from functools import cache

import torch
from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner import checkpoint


@cache
def extend_mmengine() -> None:
    """Register mmsmt with mmengine, once per process.

    - Bare ``SMT`` is a model in every scope, as ``mmsmt.SMT`` is.
    - ``mmsmt::`` works in a config's ``_base_``, in the host's scope; so does
      ``mmseg::``, whose distribution has another name in each package stack.
    - The hosts' inferencers find shipped models by name, and mmpretrain's hub
      has the classifiers: :mod:`mmsmt.names`.
    - The authors' weights are fetched by
      :func:`mmsmt.weights.fetch_checkpoint`, whose error says where to put
      the file without a network.
    - Local checkpoints that mmengine cannot read are read: those with objects
      of missing packages (the authors' hold a ``yacs.config.CfgNode``), and
      with upstream's mmengine and torch 2.6 those that hold more than tensors
      (:func:`load_anyhow`).
    - A checkpoint that does not exactly fit a model with an SMT raises an
      error, in runs and in the hosts' inferencers:
      :func:`mmsmt.weights.strict_loader`.
    """
    from mmsmt.models import SMT
    from mmsmt.names import extend_hosts
    from mmsmt.weights import fetch_checkpoint, strict_loader
    from mmsmt.weights.fetching import RELEASE

    MMENGINE_MODELS.register_module(module=SMT)
    config_utils.MODULE2PACKAGE.update(mmsmt='mmsmt', mmseg='mmseg')
    find_config = Config._get_cfg_path

    def find_in_scope(path: str, filename: str) -> tuple[str, str | None]:
        found, scope = find_config(path, filename)
        # Its configs are of a host: their classes are in its registry.
        return found, None if scope == 'mmsmt' else scope

    Config._get_cfg_path = staticmethod(find_in_scope)
    load = checkpoint.CheckpointLoader._get_checkpoint_loader('')

    def load_from_local(
        filename: str, map_location: str | torch.device | None = None
    ) -> dict:
        return load_anyhow(load, filename, map_location)

    def load_from_release(
        filename: str, map_location: str | torch.device | None = None
    ) -> dict:
        return load_from_local(str(fetch_checkpoint(filename)), map_location)

    loaders = {'': load_from_local, RELEASE: load_from_release}
    for prefix, loader in loaders.items():
        checkpoint.CheckpointLoader.register_scheme(
            prefixes=prefix, loader=loader, force=True
        )
    extend_hosts()
    checkpoint.load_state_dict = strict_loader(checkpoint.load_state_dict)


def load_anyhow(
    load: Callable[..., dict],
    filename: str,
    map_location: str | torch.device | None = None,
) -> dict:
    """Load a checkpoint as mmengine does, or read it by other means.

    Args:
        load (Callable): mmengine's loader.
        filename (str): A local file.
        map_location (str | torch.device, optional): As of ``torch.load``.

    Raises:
        CheckpointError: mmengine cannot read it, and it is damaged or would
            run code.
    """
    from mmsmt.weights import read_checkpoint

    try:
        return load(filename, map_location)
    except ModuleNotFoundError:
        return read_checkpoint(filename)
    except pickle.UnpicklingError:
        # torch 2.6 loads tensors only by default, and upstream's mmengine
        # takes the default. What would run code is refused here.
        read_checkpoint(filename, lazily=True)
        return torch.load(
            filename, map_location=map_location, weights_only=False
        )
