"""Initial weights of SMT."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import nn

from mmsmt.registry import WEIGHT_INITIALIZERS


@WEIGHT_INITIALIZERS.register_module()
class SMTInit:
    """Initializer of every parameter of an SMT, as in the released code.

    Linear weights come from a truncated normal (std 0.02), convolutions from
    a normal with std ``sqrt(2 / fan_out)``; biases are 0. Norms start at 1
    and 0, LayerScale at its initial value.
    """

    def __call__(self, module: nn.Module) -> None:
        """Initialize the weights of a module and of all modules inside it."""
        m: Any  # layers have attributes that nn.Module does not declare
        for m in module.modules():
            how = None
            if isinstance(m, nn.Linear):
                trunc_normal_(m.weight, std=0.02)
                how = 'TruncNormal: mean=0, std=0.02, bias=0'
            elif isinstance(m, nn.Conv2d):
                fan_out = math.prod(m.kernel_size) * m.out_channels
                std = math.sqrt(2 / (fan_out // m.groups))
                nn.init.normal_(m.weight, std=std)
                how = f'Normal: mean=0, std={std:.4g}, bias=0'
            elif hasattr(m, 'reset_parameters'):
                m.reset_parameters()
                how = f'reset_parameters of {type(m).__name__}'
            elif hasattr(m, 'layer_scale_init_value'):
                for gamma in m.parameters(recurse=False):
                    nn.init.constant_(gamma, m.layer_scale_init_value)
                how = f'Constant: {m.layer_scale_init_value}'
            if isinstance(m, (nn.Linear, nn.Conv2d)) and m.bias is not None:
                nn.init.zeros_(m.bias)
            self._record(m, how)

    @staticmethod
    def _record(module: Any, how: str | None) -> None:
        """Record the initialization of parameters for mmengine's report."""
        if how is None or not hasattr(module, '_params_init_info'):
            return
        for parameter in module.parameters(recurse=False):
            module._params_init_info[parameter].update(
                init_info=f'SMTInit: {how}',
                tmp_mean_value=parameter.data.mean().cpu(),
            )


@contextmanager
def smt_init_first(model: BaseModule) -> Iterator[None]:
    """Prepend :class:`SMTInit` to a model's ``init_cfg``, in a context."""
    given = model.init_cfg
    rest = [given] if isinstance(given, dict) else list(given or [])
    model.init_cfg = [dict(type='mmsmt.SMTInit'), *rest]
    try:
        yield
    finally:
        model.init_cfg = given


def strict_init_cfg(
    init_cfg: dict | list[dict] | None,
) -> dict | list[dict] | None:
    """Replace mmengine's ``Pretrained`` in an ``init_cfg`` by ours.

    Ours loads a checkpoint completely or raises an error; it is moved to the
    end of a list, so that nothing overwrites the loaded weights.
    """
    if init_cfg is None:
        return None
    if not isinstance(init_cfg, (dict, list, tuple)):
        raise TypeError(
            "init_cfg must be a dict such as dict(type='Pretrained', "
            f'checkpoint=FILE), got {init_cfg!r}'
        )
    cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg
    cfgs = [dict(cfg) for cfg in cfgs]
    for cfg in cfgs:
        name = getattr(cfg.get('type'), '__name__', cfg.get('type'))
        if str(name).split('.')[-1] in ('Pretrained', 'PretrainedInit'):
            cfg['type'] = 'mmsmt.Pretrained'
    cfgs.sort(key=lambda cfg: cfg.get('type') == 'mmsmt.Pretrained')
    return cfgs[0] if isinstance(init_cfg, dict) else cfgs
