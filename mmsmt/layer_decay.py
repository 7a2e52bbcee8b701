"""Layer-wise learning-rate decay, in every host."""

from typing import Any

from mmpretrain.engine.optimizers import (
    LearningRateDecayOptimWrapperConstructor,
)
from torch import nn

from mmsmt.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(
    LearningRateDecayOptimWrapperConstructor
):
    """Layer-decay constructor of mmpretrain, also for mmdet and mmseg.

    mmpretrain's constructor calls the model's ``get_layer_depth``, which
    models of mmdet and mmseg lack; this one calls their backbone's. Necks and
    heads have the full learning rate. In a config::

        optim_wrapper = dict(
            constructor='mmsmt.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0.0),
        )
    """

    def add_params(
        self, params: list[dict], module: nn.Module, *args: Any, **kwargs: Any
    ) -> None:
        """Add a parameter group for each parameter of a module."""
        asked = kwargs.get('get_layer_depth') or len(args) > 1
        backbone = getattr(module, 'backbone', None)
        if not asked and not hasattr(module, 'get_layer_depth'):
            depth = getattr(backbone, 'get_layer_depth', None)
            if depth:
                kwargs['get_layer_depth'] = lambda name: depth(
                    name, 'backbone.'
                )
        super().add_params(params, module, *args, **kwargs)
