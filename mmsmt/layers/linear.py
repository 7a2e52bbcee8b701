"""Linear layers applied to the channels of a map."""

import platform

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsmt.execution.contracts import is_compiling, is_stock

from .maps import nchw, nhwc, on_gpu

HAS_ONEDNN = torch.backends.mkldnn.is_available() and platform.machine() in (
    'x86_64',
    'AMD64',
)


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer to the channels of a map.

    In fp32 on an x86 CPU a stock ``nn.Linear`` is computed as a 1 x 1
    convolution: oneDNN chooses its kernels by the CPU's instruction set. MKL,
    which computes PyTorch's matrix products, chooses them by the CPU's vendor.

    Args:
        layer (nn.Module): ``nn.Linear`` or its replacement.
        x (Tensor): Map, (B, in_features, H, W).

    Returns:
        Tensor: (B, out_features, H, W), in channels-last memory.
    """
    if type(layer) is nn.Linear and _suits_onednn(x) and is_stock(layer):
        return _pointwise(x, layer.weight, layer.bias)
    return nchw(layer(nhwc(x)))


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
    slices = _slices(layer.out_features, parts)
    weights = [layer.weight[part] for part in slices]
    bias = layer.bias
    biases = [bias if bias is None else bias[part] for part in slices]
    if _suits_onednn(x):
        return [_pointwise(x, w, b) for w, b in zip(weights, biases)]
    x = nhwc(x)
    return [nchw(F.linear(x, w, b)) for w, b in zip(weights, biases)]


def _slices(size: int, parts: int) -> list[slice]:
    """Split a range; ONNX's Split, used for ``chunk``, varies by opset."""
    length = size // parts
    return [slice(i * length, (i + 1) * length) for i in range(parts)]


def _suits_onednn(x: Tensor) -> bool:
    """Check that a convolution computes a linear layer faster.

    For smaller inputs oneDNN's gradients are slow, or PyTorch does not use it.
    """
    return (
        HAS_ONEDNN
        and x.dtype == torch.float32
        and x.device.type == 'cpu'
        and (
            is_compiling()
            or (x.numel() >= 128 * x.shape[1] and x.numel() > 20480)
        )
    )


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # Dilation has no effect on a single point, but without it PyTorch would
    # not choose oneDNN on one thread.
    return F.conv2d(x, weight[:, :, None, None], bias, dilation=2)
