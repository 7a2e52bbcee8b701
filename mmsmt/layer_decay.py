"""Layer-wise learning-rate decay, in every host."""

from typing import Any

from mmpretrain.engine.optimizers import (
    LearningRateDecayOptimWrapperConstructor,
)
from torch import nn


class LayerDecayOptimWrapperConstructor(
    LearningRateDecayOptimWrapperConstructor
):
    """mmpretrain's constructor, for detectors and segmenters too.

    mmpretrain's asks the model for the depth of a parameter, which those of
    mmdet and mmseg do not know; here their backbone is asked. Necks and heads
    have the full learning rate. In a config::

        optim_wrapper = dict(
            constructor='mmsmt.layer_decay.LayerDecayOptimWrapperConstructor',
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
