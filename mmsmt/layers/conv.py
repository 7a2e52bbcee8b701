"""Convolutions followed by a batch norm or by adding their input."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mmsmt.execution.contracts import inferred_on_cpu, is_stock


def is_local(norm: nn.Module) -> bool:
    """Check that a norm computes each position from that position only.

    True for a batch norm that applies its running statistics, and for the
    identity that replaces one folded into a convolution.
    """
    return isinstance(norm, nn.Identity) or _applies_statistics(norm)


def conv_bn(
    conv: nn.Module, bn: nn.Module, x: Tensor, relu: bool = False
) -> Tensor:
    """Compute ``bn(conv(x))``, optionally followed by ReLU.

    At inference on a CPU, one convolution computes both. ReLU is in place
    unless a hook may hold the result.

    Args:
        conv (nn.Module): The convolution.
        bn (nn.Module): The norm after it.
        x (Tensor): Input, (B, in_channels, H, W).
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
        # On a GPU the convolution may be computed in dense NCHW memory.
        x = bn(conv(x).contiguous(memory_format=torch.channels_last))
    return F.relu(x, inplace=stock) if relu else x


def conv_plus_input(conv: nn.Module, x: Tensor) -> Tensor:
    """Compute ``conv(x) + x``, adding in place to the convolution's output.

    Adding to a view would trigger CopySlices in autograd. The addition is out
    of place if a hook may hold the output.
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
    # Detached: autocast would cache a copy of each otherwise.
    return F.conv2d(
        x,
        weight.detach(),
        bias.detach(),
        conv.stride,
        conv.padding,
        # With dilation PyTorch chooses oneDNN, as in layers/linear.py.
        2 if conv.kernel_size == (1, 1) else 1,
        conv.groups,
    )


def _applies_statistics(norm: nn.Module) -> bool:
    """Check for a batch norm with PyTorch's forward and frozen statistics."""
    return (
        type(norm).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
        and not norm.training
        and norm.running_var is not None
    )
