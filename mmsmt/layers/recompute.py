"""Recompute the activation before a linear layer in the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsmt.execution.contracts import (
    is_functional,
    is_stock,
    trained_on_cpu,
)

from .conv import is_pointwise
from .linear import linear_backward, suits_onednn
from .maps import nchw, nhwc
from .onednn import pointwise

LARGE = 16_000_000
"""Bytes of a map from which it is not kept.

Computing GELU again takes less time than writing such a map to new memory,
which the system clears. Measured on an AMD EPYC (AVX2, two cores), torch
2.12.1, 2026-11-27."""


def linear_of_gelu(
    act: Any, layer: Any, x: Tensor, call: Callable[[Tensor], Tensor]
) -> Tensor:
    """Compute ``call(act(x))`` of a map.

    A linear layer keeps its input for the gradient of its weights, and GELU
    its own. Where the gradient of ``x`` is recorded on a CPU, both are stock
    and the map is :data:`LARGE`, only the latter is kept, and GELU is computed
    again in the backward pass.

    Args:
        act (nn.Module): The activation.
        layer (nn.Module): ``nn.Linear``, a 1 x 1 ``nn.Conv2d``, or what
            replaces them.
        x (Tensor): Map, (B, C, H, W).
        call (Callable): Applies the layer to a map.

    Returns:
        Tensor: (B, C', H, W), in channels-last memory.
    """
    if (
        not trained_on_cpu(x)
        or is_functional()
        or x.nbytes < LARGE
        or type(act) is not nn.GELU
        or not is_stock(act)
        or not is_stock(layer)
        or not (
            type(layer) is nn.Linear
            or (is_pointwise(layer) and layer.groups == 1)
        )
    ):
        return call(act(x))
    weight = layer.weight.flatten(1)
    by_onednn = suits_onednn(x)
    out = _LinearOfGelu.apply(
        x, weight, layer.bias, act.approximate, by_onednn
    )
    if by_onednn:
        return out
    return nchw(out.view(x.shape[0], *x.shape[2:], len(weight)))


class _LinearOfGelu(torch.autograd.Function):
    """Keep the input of GELU, not its result.

    Returns the map of a convolution, or the rows (B * H * W, C') of a product.
    Neither is a view, so that hooks may change it in place.
    """

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        approximate: str,
        by_onednn: bool,
    ) -> Tensor:
        # Detached: autocast would cache copies that have no gradients.
        weight, bias = weight.detach(), bias if bias is None else bias.detach()
        y = F.gelu(x, approximate=approximate)
        if by_onednn:
            return pointwise(y, weight, bias)
        return F.linear(nhwc(y).reshape(-1, y.shape[1]), weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, bias, ctx.approximate, ctx.by_onednn = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if not ctx.by_onednn:
            grad = nchw(grad.reshape(x.shape[0], *x.shape[2:], len(weight)))
        y = x
        if wanted[1]:
            y = F.gelu(x, approximate=ctx.approximate)
        grad_y, grad_weight, grad_bias = linear_backward(
            grad, y.to(grad.dtype), weight.to(grad.dtype), wanted
        )
        del y
        if wanted[0]:
            grad_y = torch.ops.aten.gelu_backward(
                grad_y.to(x.dtype), x, approximate=ctx.approximate
            )
        if wanted[1]:
            grad_weight = grad_weight.to(weight.dtype)
        return grad_y, grad_weight, grad_bias, None, None
