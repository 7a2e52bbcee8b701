"""Convolutions with what follows them: a batch norm, or their input."""

from typing import Any

import torch.nn.functional as F
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mmsmt.execution.contracts import inferred_on_cpu, is_stock


def is_local(norm: nn.Module) -> bool:
    """Check that a norm computes each place from that place only.

    True for a batch norm that applies its running statistics, and for the
    identity that is left where one was folded into a convolution.
    """
    return isinstance(norm, nn.Identity) or _applies_statistics(norm)


def conv_bn(
    conv: nn.Module, bn: nn.Module, x: Tensor, relu: bool = False
) -> Tensor:
    """Compute ``bn(conv(x))``, and ReLU of it if asked for.

    At inference on a CPU, one convolution computes both. ReLU overwrites the
    result unless a hook may have kept it.

    Args:
        conv (nn.Module): The convolution.
        bn (nn.Module): The norm after it.
        x (Tensor): (B, in_channels, H, W).
        relu (bool): Apply ReLU. Defaults to False.

    Returns:
        Tensor: (B, out_channels, H', W').
    """
    stock = is_stock(conv) and is_stock(bn)
    if (
        stock
        and type(conv) is nn.Conv2d
        and inferred_on_cpu(x)
        and _applies_statistics(bn)
    ):
        x = _fused(conv, bn, x)
    else:
        x = bn(conv(x))
    return F.relu(x, inplace=stock) if relu else x


def conv_plus_input(conv: nn.Module, x: Tensor) -> Tensor:
    """Compute ``conv(x) + x``, overwriting the convolution's result.

    Adding to a view of it would make autograd copy slices; a result that a
    hook may have kept is not overwritten.
    """
    out = conv(x)
    return out.add_(x) if is_stock(conv) else out + x


def _fused(conv: nn.Conv2d, bn: Any, x: Tensor) -> Tensor:
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        bn.running_mean,
        bn.running_var,
        bn.eps,
        bn.weight,
        bn.bias,
    )
    # Detached, or autocast would keep a copy of each.
    return F.conv2d(
        x,
        weight.detach(),
        bias.detach(),
        conv.stride,
        conv.padding,
        # As for a linear layer: PyTorch chooses oneDNN then.
        2 if conv.kernel_size == (1, 1) else 1,
        conv.groups,
    )


def _applies_statistics(norm: nn.Module) -> bool:
    """Check for a batch norm with PyTorch's forward and fixed statistics."""
    return (
        type(norm).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
        and not norm.training
        and norm.running_var is not None
    )
