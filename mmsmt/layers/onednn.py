"""Call fused operators of oneDNN, as PyTorch's compiler does, on a CPU."""

import platform

import torch
from mmengine.utils import digit_version
from torch import Tensor, nn

from mmsmt.environment import cpu_name
from mmsmt.execution.contracts import inferred_on_cpu, is_stock

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
"""True if convolutions may compute activations.

oneDNN before 3.4, in torch before 2.4, keeps a pointer to freed memory, and
computes wrong values or crashes when it makes a kernel again that its cache
no longer has: https://github.com/uxlfoundation/oneDNN, commit 7d9257ce50."""


def autocast_on_cpu() -> bool:
    """Check for autocast to a lower precision."""
    if hasattr(torch, 'get_autocast_dtype'):  # from torch 2.4 on
        return torch.is_autocast_enabled('cpu')
    return torch.is_autocast_cpu_enabled()


def fused_name(act: nn.Module, x: Tensor) -> tuple[str, str | None] | None:
    """Return oneDNN's name of an activation, if it may be fused.

    Args:
        act (nn.Module): The activation.
        x (Tensor): The map that would be convolved.

    Returns:
        tuple[str, str | None] | None: Name and algorithm; None if the
        activation must be called, or gradients or bf16 are asked for.
    """
    if (
        not HAS_FUSED
        or x.dtype != torch.float32
        or not inferred_on_cpu(x)
        or autocast_on_cpu()
        or not is_stock(act)
    ):
        return None
    if type(act) is nn.GELU:
        return 'gelu', act.approximate
    return ('relu', None) if type(act) is nn.ReLU else None


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    conv: nn.Conv2d,
    name: tuple[str, str | None],
) -> Tensor:
    """Compute a convolution and its activation.

    Args:
        x (Tensor): Input, (B, in_channels, H, W).
        weight (Tensor): In place of that of ``conv``.
        bias (Tensor, optional): In place of that of ``conv``.
        conv (nn.Conv2d): Stride, padding, dilation and groups.
        name (tuple[str, str | None]): Of :func:`fused_name`.

    Returns:
        Tensor: (B, out_channels, H', W').
    """
    return torch.ops.mkldnn._convolution_pointwise(
        x,
        weight,
        bias,
        conv.padding,
        conv.stride,
        conv.dilation,
        conv.groups,
        name[0],
        [],
        name[1],
    )
