"""Call fused operators of oneDNN, as PyTorch's compiler does, on a CPU."""

import platform

import torch
import torch.nn.functional as F
from mmengine.utils import digit_version
from torch import Tensor, nn

from mmsmt.environment import cpu_name
from mmsmt.execution.contracts import inferred_on_cpu

from .maps import nchw, nhwc

HAS_ONEDNN = torch.backends.mkldnn.is_available() and platform.machine() in (
    'x86_64',
    'AMD64',
)
MKL_IS_SLOW = (
    'AVX512' in torch.backends.cpu.get_cpu_capability()
    and 'Intel' not in cpu_name()
)
"""True if MKL does not use the widest instructions of the CPU."""
HAS_FUSED = HAS_ONEDNN and (
    digit_version(torch.__version__) >= digit_version('2.4')
)
"""True if operators compute a layer and what follows it.

oneDNN before 3.4, in torch before 2.4, keeps a pointer to freed memory, and
computes wrong values or crashes when it makes a kernel again that its cache
no longer has: https://github.com/uxlfoundation/oneDNN, commit 7d9257ce50."""
MANY = 128 if MKL_IS_SLOW else 2048
"""Tokens from which oneDNN computes products faster than MKL at inference.

Its calls take 20 us longer. Measured on an Intel Xeon (AVX-512, two cores),
torch 2.12.1, 2026-11-28, also with either limited to AVX2."""


def autocast_on_cpu() -> bool:
    """Check for autocast to a lower precision."""
    if hasattr(torch, 'get_autocast_dtype'):  # from torch 2.4 on
        return torch.is_autocast_enabled('cpu')
    return torch.is_autocast_cpu_enabled()


def is_plain_inference(x: Tensor) -> bool:
    """Check for eager inference on a CPU in fp32, with oneDNN if it is there.

    False under autocast and ``torch.backends.mkldnn.flags(enabled=False)``.
    """
    return (
        x.dtype == torch.float32
        and inferred_on_cpu(x)
        and not autocast_on_cpu()
        and torch._C._get_mkldnn_enabled()
    )


def fused_name(act: nn.Module) -> tuple[str, str | None] | None:
    """Return oneDNN's name and algorithm of an activation, None without."""
    if type(act) is nn.GELU:
        return 'gelu', act.approximate
    return ('relu', None) if type(act) is nn.ReLU else None


def multiply(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    plus: Tensor | None = None,
    times: Tensor | None = None,
) -> Tensor:
    """Compute a linear layer, and a sum or a product with a tensor.

    Args:
        x (Tensor): Input, (B, H, W, C), of :func:`is_plain_inference`.
        weight (Tensor): (C', C).
        bias (Tensor, optional): (C',).
        plus (Tensor, optional): Tensor to add, (B, H, W, C').
        times (Tensor, optional): Tensor to multiply by, in place of ``plus``.

    Returns:
        Tensor: (B, H, W, C').
    """
    other = plus if times is None else times
    many = HAS_ONEDNN and x.numel() >= MANY * x.shape[3]
    if many and HAS_FUSED:
        fused = torch.ops.mkldnn._linear_pointwise
        bias = _dense(bias)
        if other is None:
            return fused.default(x, weight, bias, 'none', [], None)
        name = 'add' if times is None else 'mul'
        return fused.binary(x, other, weight, bias, name)
    if many and x.numel() > 20480:
        y = nhwc(pointwise(nchw(x), weight, bias))
    elif plus is not None:
        # The product is added to a copy, in place of a sum after it.
        y = plus.clone() if bias is None else plus + bias
        y.view(-1, len(weight)).addmm_(x.flatten(0, 2), weight.t())
        return y
    else:
        y = F.linear(x, weight, bias)
    if times is not None:
        return y.mul_(times)
    return y if plus is None else y.add_(plus)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply weights of a linear layer to a map as a convolution."""
    # Dilation has no effect on a single point, but without it PyTorch would
    # not choose oneDNN on one thread.
    return F.conv2d(x, weight[:, :, None, None], bias, dilation=2)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
    act: nn.Module | None = None,
) -> Tensor:
    """Compute a convolution that keeps the size, and an activation.

    Args:
        x (Tensor): Map, (B, C, H, W), of :func:`is_plain_inference`.
        weight (Tensor): (C', C / groups, size, size).
        bias (Tensor, optional): (C',).
        groups (int): Number of groups.
        act (nn.Module, optional): Activation of the result.

    Returns:
        Tensor: (B, C', H, W).
    """
    size = weight.shape[3]
    name = ('none', None) if act is None else fused_name(act)
    if HAS_FUSED and name:
        return torch.ops.mkldnn._convolution_pointwise.default(
            *(x, weight, _dense(bias)),
            *([size // 2] * 2, [1, 1], [1, 1], groups),
            *(name[0], [], name[1]),
        )
    # As in `pointwise`.
    dilation = 2 if size == 1 else 1
    y = F.conv2d(x, weight, bias, 1, size // 2, dilation, groups)
    return y if act is None else act(y)


def _dense(bias: Tensor | None) -> Tensor | None:
    """Return a copy of a strided bias, of which oneDNN ignores the strides."""
    return bias if bias is None else bias.contiguous()
