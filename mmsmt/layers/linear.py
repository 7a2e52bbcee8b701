"""Linear layers applied to the channels of a map."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsmt.execution.contracts import is_compiling, is_stock

from .maps import nchw, nhwc, on_gpu
from .onednn import HAS_ONEDNN, MKL_IS_SLOW, pointwise


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer to the channels of a map.

    In fp32 on an x86 CPU a stock ``nn.Linear`` is computed as a 1 x 1
    convolution where that is faster: oneDNN chooses its kernels by the CPU's
    instruction set. MKL, which computes PyTorch's matrix products, chooses
    them by the CPU's vendor too.

    Args:
        layer (nn.Module): ``nn.Linear`` or its replacement.
        x (Tensor): Map, (B, in_features, H, W).

    Returns:
        Tensor: (B, out_features, H, W), in channels-last memory.
    """
    if type(layer) is nn.Linear and suits_onednn(x) and is_stock(layer):
        return pointwise(x, layer.weight, layer.bias)
    return nchw(layer(nhwc(x)))


def apply_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply weights of a linear layer to the channels of a map.

    Args:
        x (Tensor): Map, (B, in_features, H, W).
        weight (Tensor): (out_features, in_features).
        bias (Tensor, optional): (out_features,).

    Returns:
        Tensor: (B, out_features, H, W), in channels-last memory.
    """
    if suits_onednn(x):
        return pointwise(x, weight, bias)
    return nchw(F.linear(nhwc(x), weight, bias))


def linear_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    wanted: Sequence[bool],
) -> tuple[Any, Any, Any]:
    """Compute the gradients of a linear layer of a map.

    Args:
        grad (Tensor): That of the result, (B, out_features, H, W).
        x (Tensor): Map, (B, in_features, H, W). Its values count only for the
            gradient of the weight.
        weight (Tensor): (out_features, in_features).
        wanted (Sequence[bool]): Flags for the map, the weight and the bias.

    Returns:
        tuple[Tensor | None, ...]: Those of ``x``, ``weight`` and the bias.
    """
    if suits_onednn(x):
        grads = torch.ops.aten.convolution_backward(
            *(grad, x, weight[:, :, None, None], [len(weight)]),
            *([1, 1], [0, 0], [2, 2], False, [0, 0], 1, list(wanted)),
        )
        of_weight = grads[1].reshape(weight.shape) if wanted[1] else None
        return grads[0], of_weight, grads[2]
    rows = nhwc(grad).reshape(-1, weight.shape[0])
    return (
        nchw(nhwc(grad) @ weight) if wanted[0] else None,
        rows.t() @ nhwc(x).reshape(-1, weight.shape[1]) if wanted[1] else None,
        rows.sum(0) if wanted[2] else None,
    )


def linear_heads(layer: nn.Module, x: Tensor, num_heads: int) -> list[Tensor]:
    """Apply a linear layer and split its result into maps to convolve.

    Args:
        layer (nn.Module): ``nn.Linear`` or its replacement.
        x (Tensor): Map, (B, in_features, H, W).
        num_heads (int): Number of equal parts N.

    Returns:
        list[Tensor]: N maps of (B, out_features / N, H, W), in the memory
        layout that suits grouped convolutions.
    """
    if not on_gpu(x):
        return linear_parts(layer, x, num_heads)
    heads = layer(nhwc(x)).unflatten(3, (num_heads, -1))
    # One copy for all heads.
    return list(heads.permute(3, 0, 4, 1, 2).contiguous().unbind())


def linear_parts(layer: nn.Module, x: Tensor, parts: int) -> list[Tensor]:
    """Apply a linear layer and split its result by channels.

    On a CPU a stock ``nn.Linear`` is computed by a product for each part, so
    that each result is dense, as convolutions require; a slice of one wide
    product would have to be copied. On a GPU starting kernels takes longer.

    Args:
        layer (nn.Module): ``nn.Linear`` or its replacement.
        x (Tensor): Map, (B, in_features, H, W).
        parts (int): Number of equal parts.

    Returns:
        list[Tensor]: Maps of (B, out_features / parts, H, W).
    """
    if on_gpu(x) or type(layer) is not nn.Linear or not is_stock(layer):
        y = nchw(layer(nhwc(x)))
        return [y[:, part] for part in _slices(y.shape[1], parts)]
    return [apply_linear(x, *part) for part in split_weights(layer, parts)]


def split_weights(
    layer: nn.Linear, parts: int
) -> list[tuple[Tensor, Tensor | None]]:
    """Split the rows of a linear layer: a weight and a bias for each part."""
    weight, bias = layer.weight, layer.bias
    return [
        (weight[part], bias if bias is None else bias[part])
        for part in _slices(layer.out_features, parts)
    ]


def _slices(size: int, parts: int) -> list[slice]:
    """Split a range; ONNX's Split, used for ``chunk``, varies by opset."""
    length = size // parts
    return [slice(i * length, (i + 1) * length) for i in range(parts)]


def suits_onednn(x: Tensor) -> bool:
    """Check that a convolution computes a linear layer of a map faster.

    For smaller inputs a convolution takes longer to call, oneDNN's gradients
    are slow, or PyTorch does not use it; where MKL is as fast, its gradients
    are faster. ONNX Runtime computes an exported convolution faster than a
    product. The sizes were measured on AMD EPYCs with two cores, torch 2.12.1:
    AVX-512 2026-11-21, AVX2 2026-11-27.
    """
    if not HAS_ONEDNN or x.dtype != torch.float32 or x.device.type != 'cpu':
        return False
    if is_compiling():
        return True
    size = x.numel()
    large = size >= 128 * x.shape[1] and size > 20480
    return large and (MKL_IS_SLOW or torch.jit.is_tracing())
