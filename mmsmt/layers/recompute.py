"""Linear layers of an activation that is recomputed in the backward pass."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsmt.execution.contracts import enabled, is_stock, is_transformed

from .conv import is_plain_conv
from .linear import apply_linear, linear, linear_backward

LARGE = 16_000_000
"""Bytes of a map from which it is not kept. Computing GELU again takes less
time than writing such a map to new memory, which the system clears."""


def linear_of_gelu(act: Any, layer: Any, x: Tensor) -> Tensor:
    """Compute ``layer(act(x))`` of a map.

    A linear layer keeps its input for the gradient of its weights, and GELU
    its own. Where gradients are recorded, both are stock, and the map is
    :data:`LARGE`, only the latter is kept, and GELU is computed again in the
    backward pass.

    Args:
        act (nn.Module): The activation.
        layer (nn.Module): ``nn.Linear``, a 1 x 1 ``nn.Conv2d``, or what
            replaces them.
        x (Tensor): Map, (B, C, H, W).

    Returns:
        Tensor: (B, C', H, W), in channels-last memory.
    """
    pointwise = is_plain_conv(layer) and layer.kernel_size == (1, 1)
    if (
        torch.is_grad_enabled()
        and not is_transformed()
        and x.nbytes >= LARGE
        and type(act) is nn.GELU
        and (type(layer) is nn.Linear or pointwise)
        and enabled()
        and is_stock(act)
        and is_stock(layer)
    ):
        weight = layer.weight.flatten(1)
        return _LinearOfGelu.apply(x, weight, layer.bias, act.approximate)
    x = act(x)
    return layer(x) if isinstance(layer, nn.Conv2d) else linear(layer, x)


class _LinearOfGelu(torch.autograd.Function):
    """Keep the input of GELU, not its result."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, approximate: str
    ) -> Tensor:
        # Detached: autocast would cache copies that have no gradients.
        weight, bias = weight.detach(), bias if bias is None else bias.detach()
        y = F.gelu(x, approximate=approximate)
        return apply_linear(y, weight, bias, training=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, bias, ctx.approximate = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        y = F.gelu(x, approximate=ctx.approximate).to(grad.dtype)
        grad_y, grad_weight, grad_bias = linear_backward(
            grad, y, weight.to(grad.dtype), wanted
        )
        del y
        if wanted[0]:
            grad_y = torch.ops.aten.gelu_backward(
                grad_y.to(x.dtype), x, approximate=ctx.approximate
            )
        if wanted[1]:
            grad_weight = grad_weight.to(weight.dtype)
        return grad_y, grad_weight, grad_bias, None
