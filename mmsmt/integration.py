"""Register mmsmt with mmengine, on ``import mmsmt``."""

import torch
from mmengine.config import utils as config_utils
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner.checkpoint import CheckpointLoader


def extend_mmengine() -> None:
    """Register mmsmt with mmengine, once per process.

    - Bare ``SMT`` is a model in every scope, as ``mmsmt.SMT`` is.
    - ``mmsmt::`` works in a config's ``_base_``; so does ``mmseg::``, whose
      distribution has another name in each package stack.
    - Local checkpoints that mmengine cannot read, since they hold objects of
      packages that are not installed (the authors' hold a
      ``yacs.config.CfgNode``), are read by
      :func:`mmsmt.weights.read_checkpoint`.
    """
    from mmsmt.models import SMT
    from mmsmt.weights import read_checkpoint

    MMENGINE_MODELS.register_module(module=SMT)
    config_utils.MODULE2PACKAGE.update(mmsmt='mmsmt', mmseg='mmseg')
    load = CheckpointLoader._get_checkpoint_loader('')

    def load_local(
        filename: str, map_location: str | torch.device | None = None
    ) -> dict:
        try:
            return load(filename, map_location)
        except ModuleNotFoundError:
            return read_checkpoint(filename)

    CheckpointLoader.register_scheme(
        prefixes='', loader=load_local, force=True
    )
