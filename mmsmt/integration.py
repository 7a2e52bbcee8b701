"""Register mmsmt with mmengine, on ``import mmsmt``."""

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
    - Local checkpoints that mmengine cannot read because they hold objects of
      missing packages (the authors' hold a ``yacs.config.CfgNode``) are read
      by :func:`mmsmt.weights.read_checkpoint`.
    - A checkpoint that does not exactly fit a model with an SMT raises an
      error, in runs and in the hosts' inferencers:
      :func:`mmsmt.weights.strict_loader`.
    """
    from mmsmt.models import SMT
    from mmsmt.names import extend_hosts
    from mmsmt.weights import (
        fetch_checkpoint,
        read_checkpoint,
        strict_loader,
    )
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
        try:
            return load(filename, map_location)
        except ModuleNotFoundError:
            return read_checkpoint(filename)

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
