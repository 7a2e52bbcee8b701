"""Compute all heads of a mixed convolution as one, for small maps."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsmt.execution.contracts import inferred_on_cpu, is_stock

from .conv import is_depthwise
from .linear import apply_linear

MAX_TOKENS = 1024
"""Tokens up to which calling operators takes longer than zeros in kernels.

Measured on an AMD EPYC (AVX2, two cores), torch 2.12.1, 2026-11-27."""


def are_mixed_at_once(
    layer: nn.Module, convs: Iterable[nn.Module], x: Tensor
) -> bool:
    """Check for small maps at inference on a CPU, and stock modules."""
    return (
        inferred_on_cpu(x)
        and x.shape[0] * x.shape[2] * x.shape[3] <= MAX_TOKENS
        and type(layer) is nn.Linear
        and is_stock(layer)
        and all(is_depthwise(c) and c.bias is not None for c in convs)
    )


def mix_heads(layer: nn.Linear, convs: Iterable[Any], x: Tensor) -> Tensor:
    """Compute ``interleave(conv(head) for each head)`` of a linear layer.

    The rows of the layer are interleaved instead of its result, and kernels
    are padded with zeros to the largest.

    Args:
        layer (nn.Linear): Its outputs are the heads, side by side.
        convs (Iterable[nn.Conv2d]): A depth-wise convolution for each head.
        x (Tensor): Map, (B, in_features, H, W).

    Returns:
        Tensor: (B, out_features, H, W): channel 0 of each head, channel 1 of
        each, ...
    """
    convs = list(convs)
    heads = len(convs)
    size = max(conv.kernel_size[0] for conv in convs)
    rows = layer.weight.unflatten(0, (heads, -1)).transpose(0, 1).flatten(0, 1)
    bias: Tensor | None = layer.bias
    if bias is not None:
        bias = bias.view(heads, -1).t().flatten()
    kernels = torch.stack(
        [
            F.pad(conv.weight, [(size - conv.kernel_size[0]) // 2] * 4)
            for conv in convs
        ],
        dim=1,
    ).flatten(0, 1)
    return F.conv2d(
        apply_linear(x, rows, bias),
        kernels,
        torch.stack([conv.bias for conv in convs], dim=1).flatten(),
        padding=size // 2,
        groups=len(kernels),
    )
