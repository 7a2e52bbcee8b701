"""Compute convolutions and what follows: a norm or an addition."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn

from mmsmt.execution.contracts import (
    inferred_on_cpu,
    is_compiling,
    is_stock,
    trained_on_cpu,
)

from .maps import on_gpu
from .onednn import autocast_on_cpu


def is_local(norm: nn.Module) -> bool:
    """Check that a norm computes each position from that position only.

    True for a batch norm that applies its running statistics, and for the
    identity that replaces one folded into a convolution.
    """
    return isinstance(norm, nn.Identity) or _applies_statistics(norm)


def reach(*convs: nn.Module) -> int | None:
    """Return the rows above and below that convolutions read, None for all."""
    rows = 0
    for conv in convs:
        if not isinstance(conv, nn.Conv2d) or conv.stride != (1, 1):
            return None
        rows = max(rows, conv.dilation[0] * (conv.kernel_size[0] // 2))
    return rows


def conv_bn(conv: nn.Module, bn: nn.Module, x: Tensor) -> Tensor:
    """Compute ``bn(conv(x))``, as one convolution at inference on a CPU.

    Args:
        conv (nn.Module): The convolution.
        bn (nn.Module): The norm after it.
        x (Tensor): Input, (B, in_channels, H, W).

    Returns:
        Tensor: (B, out_channels, H', W').
    """
    if (
        inferred_on_cpu(x)
        and _applies_statistics(bn)
        and is_plain_conv(conv)
        and is_stock(bn)
    ):
        weight, bias = fold(conv, bn)
        # Detached: autocast would cache a copy of each otherwise.
        return _convolve(conv, weight.detach(), bias.detach(), x)
    x = conv(x)
    if on_gpu(x):  # it may be computed in dense NCHW memory
        x = x.contiguous(memory_format=torch.channels_last)
    return bn(x)


def large_depthwise(conv: Any, x: Tensor) -> Tensor:
    """Compute a depth-wise convolution, in fp32 where bf16 is slow to train.

    On a CPU oneDNN has no fast kernel for the gradient of bf16 weights larger
    than 3 x 3. Forward and backward of 8 maps of 16 x 56 x 56 take 0.8, 9.1,
    8.6 and 13.6 ms with kernels of 3, 5, 7 and 9 in bf16, and 1.0, 3.2, 4.1
    and 5.7 in fp32, with conversions (Intel Xeon, AMX, two cores, torch
    2.12.1, 2026-11-28).

    Args:
        conv (nn.Module): The convolution, or its replacement.
        x (Tensor): Input, (B, C, H, W).

    Returns:
        Tensor: (B, C, H, W), of the type of ``x`` in that case.
    """
    if (
        x.dtype == torch.bfloat16
        and is_depthwise(conv)
        and conv.kernel_size[0] > 3
        and conv.weight.dtype == torch.float32
        and trained_on_cpu(conv.weight)
    ):
        with torch.autocast('cpu', enabled=False):
            return conv(x.float()).to(x.dtype)
    return conv(x)


def conv_plus_input(conv: Any, x: Tensor) -> Tensor:
    """Compute ``conv(x) + x``.

    In fp32 adding the input is a 1 in the kernel of a depth-wise convolution.

    Args:
        conv (nn.Module): Depth-wise convolution, or its replacement.
        x (Tensor): Input, (B, C, H, W).

    Returns:
        Tensor: (B, C, H, W).
    """
    if _adds_by_kernel(conv, x):
        weight = conv.weight + identity_kernel(conv.weight)
        return _convolve(conv, weight, conv.bias, x)
    out = conv(x)
    # Adding to a view would trigger CopySlices in autograd. The addition is
    # out of place if a hook may hold the output.
    return out.add_(x) if is_stock(conv) else out + x


def fold(conv: Any, bn: Any) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution with the norm after it.

    Args:
        conv (nn.Conv2d): The convolution.
        bn (nn.Module): Batch norm that applies its running statistics.
    """
    scale = (bn.running_var + bn.eps).rsqrt_()
    if bn.weight is not None:
        scale *= bn.weight
    mean = bn.running_mean
    bias = mean.neg() if conv.bias is None else conv.bias - mean
    bias *= scale
    if bn.bias is not None:
        bias += bn.bias
    weight = conv.weight * scale[:, None, None, None]
    return weight.to(conv.weight.dtype), bias.to(conv.weight.dtype)


def identity_kernel(weight: Tensor) -> Tensor:
    """Make the depth-wise kernel that copies a map.

    Args:
        weight (Tensor): Kernel of the size, type and device to make.

    Returns:
        Tensor: (1, 1, size, size).
    """
    return F.pad(weight.new_ones(1, 1, 1, 1), [weight.shape[-1] // 2] * 4)


def is_plain_conv(conv: nn.Module) -> bool:
    """Check that a convolution may be computed from its weights."""
    return (
        type(conv) is nn.Conv2d
        and conv.padding_mode == 'zeros'
        and not isinstance(conv.padding, str)
        and is_stock(conv)
    )


def is_pointwise(conv: Any) -> bool:
    """Check for :func:`is_plain_conv` of each position."""
    return (
        is_plain_conv(conv)
        and conv.kernel_size == conv.stride == (1, 1)
        and conv.padding == (0, 0)
    )


def is_depthwise(conv: Any) -> bool:
    """Check for :func:`is_plain_conv` of each channel that keeps the size."""
    if not is_plain_conv(conv):
        return False
    height, width = conv.kernel_size
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and height == width
        and height % 2 == 1
        and conv.padding == (height // 2, width // 2)
        and conv.stride == conv.dilation == (1, 1)
    )


def _adds_by_kernel(conv: nn.Module, x: Tensor) -> bool:
    return (
        x.dtype == torch.float32
        and x.device.type == 'cpu'
        and not (autocast_on_cpu() or is_compiling() or torch.jit.is_tracing())
        and is_depthwise(conv)
    )


def _convolve(conv: Any, weight: Tensor, bias: Any, x: Tensor) -> Tensor:
    """Compute a convolution of other weights."""
    return F.conv2d(
        x,
        weight,
        bias,
        conv.stride,
        conv.padding,
        # With dilation PyTorch chooses oneDNN, as in layers/onednn.py.
        2 if conv.kernel_size == (1, 1) else conv.dilation,
        conv.groups,
    )


def _applies_statistics(norm: nn.Module) -> bool:
    """Check for a batch norm with PyTorch's forward and frozen statistics."""
    return (
        type(norm).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
        and not norm.training
        and norm.running_var is not None
    )
