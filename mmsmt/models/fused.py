"""Compute the halves of a block at inference in fp32 on a CPU.

A half of stock modules without hooks is computed from their weights, without
calling them: for a small map, calls and checks of each layer take as long as
the computation, and fewer, fused operators do for larger ones too. Inside,
maps are (B, H, W, C) tensors. Equation numbers are the paper's.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from mmsmt.execution.contracts import are_stock, is_stock
from mmsmt.layers.attention import attend
from mmsmt.layers.conv import (
    fold,
    identity_kernel,
    is_depthwise,
    is_local,
    is_pointwise,
)
from mmsmt.layers.linear import split_weights
from mmsmt.layers.maps import LayerNorm2d, nchw, nhwc
from mmsmt.layers.onednn import convolve, is_plain_inference, multiply

from .branches import (
    DetailSpecificFFN,
    MultiHeadMixedConv,
    MultiHeadSelfAttention,
    ScaleAwareAggregation,
    ScaleAwareModulation,
)

MAX_TOKENS = 1024
"""Tokens up to which calling operators takes longer than zeros in kernels.

Measured on an AMD EPYC (AVX2, two cores), torch 2.12.1, 2026-11-27."""

_FORWARDS = [
    (kind, kind.forward)
    for kind in (
        LayerNorm2d,
        ScaleAwareModulation,
        MultiHeadMixedConv,
        ScaleAwareAggregation,
        MultiHeadSelfAttention,
        DetailSpecificFFN,
    )
]
"""Classes whose ``forward`` is computed here, unless it has been replaced."""


def may_mix(block: Any, x: Tensor) -> bool:
    """Check that :func:`mix` computes the first half of a block.

    Args:
        block (SMTBlock): The block.
        x (Tensor): Its input, (B, C, H, W).
    """
    return (
        _may_add(block, block.norm1, x)
        and are_stock(block.attn)
        and _is_known_mixer(block.attn)
    )


def may_feed_forward(block: Any, x: Tensor) -> bool:
    """Check that :func:`feed_forward` computes the second half of a block.

    Args:
        block (SMTBlock): The block.
        x (Tensor): (B, C, H, W).
    """
    ffn = block.mlp
    return (
        _may_add(block, block.norm2, x)
        and type(ffn) is DetailSpecificFFN
        and are_stock(ffn)
        and _are_linear(ffn.fc1, ffn.fc2)
        and _are_depthwise([ffn.dwconv])
    )


def mix(block: Any, x: Tensor) -> Tensor:
    """Mix the tokens of a map, and add it to the result.

    Args:
        block (SMTBlock): The block.
        x (Tensor): Its input, (B, C, H, W).

    Returns:
        Tensor: (B, C, H, W).
    """
    rows = nhwc(x).contiguous()
    y = _normalize(block.norm1, rows)
    is_sam = type(block.attn) is ScaleAwareModulation
    y = _modulate(block.attn, y) if is_sam else _attend(block.attn, y)
    return _add(rows, y, block.attn.proj, block.gamma_1)


def feed_forward(block: Any, x: Tensor) -> Tensor:
    """Compute ``x + fc2(act(h + dwconv(h)))`` with ``h = fc1(norm2(x))``.

    Args:
        block (SMTBlock): The block.
        x (Tensor): (B, C, H, W).

    Returns:
        Tensor: (B, C, H, W).
    """
    rows, ffn = nhwc(x).contiguous(), block.mlp
    y = multiply(_normalize(block.norm2, rows), *_weights(ffn.fc1))
    weight, bias = _weights(ffn.dwconv)
    weight = weight + _identity(weight.shape[3])
    y = nhwc(convolve(nchw(y), weight, bias, ffn.dwconv.groups, ffn.act))
    return _add(rows, y, ffn.fc2, block.gamma_2)


def _modulate(sam: Any, x: Tensor) -> Tensor:
    """Compute the modulated value (Eq. 1 to 3), before ``proj``."""
    saa = sam.saa
    if x.numel() <= MAX_TOKENS * x.shape[3]:
        y = mix_heads(sam.s, sam.mhmc.convs, x)
    else:
        parts = zip(split_weights(sam.s, sam.num_heads), sam.mhmc.convs)
        y = torch.stack(
            [_convolve(conv, multiply(x, *part)) for part, conv in parts], -1
        ).flatten(3)
    folded = isinstance(saa.bn, nn.Identity)
    weight, bias = _weights(saa.intra) if folded else fold(saa.intra, saa.bn)
    y = nhwc(convolve(nchw(y), weight, bias, saa.intra.groups, saa.act))
    modulator = multiply(y, saa.inter.weight.flatten(1), saa.inter.bias)
    return multiply(x, *_weights(sam.v), times=modulator)


def mix_heads(layer: Any, convs: Iterable[Any], x: Tensor) -> Tensor:
    """Compute the heads of a mixed convolution as one, and interleave them.

    The rows of the layer are interleaved instead of its result, and kernels
    are padded with zeros to the largest.

    Args:
        layer (nn.Linear): Its outputs are the heads, side by side.
        convs (Iterable[nn.Conv2d]): A depth-wise convolution for each head.
        x (Tensor): Input, (B, H, W, in_features).

    Returns:
        Tensor: (B, H, W, out_features): channel 0 of each head, channel 1 of
        each, ...
    """
    convs = list(convs)
    heads = len(convs)
    size = max(conv.kernel_size[0] for conv in convs)
    rows = layer.weight.view(heads, -1, layer.in_features)
    rows = rows.transpose(0, 1).reshape(layer.weight.shape)
    bias = layer.bias
    if bias is not None:
        bias = bias.view(heads, -1).t().flatten()
    kernels = [
        F.pad(conv.weight, [(size - conv.kernel_size[0]) // 2] * 4)
        for conv in convs
    ]
    y = convolve(
        nchw(multiply(x, rows, bias)),
        torch.stack(kernels, dim=1).flatten(0, 1),
        torch.stack([conv.bias for conv in convs], dim=1).flatten(),
        len(rows),
    )
    return nhwc(y)


def _attend(msa: Any, x: Tensor) -> Tensor:
    """Compute self-attention and the convolution of V, before ``proj``."""
    q = multiply(x, *_weights(msa.q))
    k, v = (multiply(x, *part) for part in split_weights(msa.kv, 2))
    sizes = (msa.num_heads, q.shape[3] // msa.num_heads)
    heads = (y.flatten(1, 2).unflatten(2, sizes) for y in (q, k, v))
    out = attend(*(y.transpose(1, 2) for y in heads))
    out = out.transpose(1, 2).reshape(q.shape)
    # A sum within the convolution takes oneDNN twice as long.
    return _convolve(msa.local_conv, v).add_(out)


def _normalize(norm: Any, x: Tensor) -> Tensor:
    return F.layer_norm(
        x, norm.normalized_shape, norm.weight, norm.bias, norm.eps
    )


def _add(x: Tensor, y: Tensor, layer: Any, gamma: Tensor | None) -> Tensor:
    """Add the result of the last linear layer, scaled, to (B, H, W, C)."""
    if gamma is None:
        return nchw(multiply(y, *_weights(layer), plus=x))
    return nchw(multiply(y, *_weights(layer)).mul_(gamma).add_(x))


def _convolve(conv: Any, x: Tensor) -> Tensor:
    return nhwc(convolve(nchw(x), *_weights(conv), conv.groups))


def _weights(layer: Any) -> tuple[Tensor, Tensor | None]:
    return layer.weight, layer.bias


@lru_cache
def _identity(size: int) -> Tensor:
    """Keep a kernel of :func:`identity_kernel` for each size."""
    with torch.inference_mode(False):
        return identity_kernel(
            torch.empty(1, 1, size, size, device='cpu', dtype=torch.float32)
        )


def _may_add(block: Any, norm: Any, x: Tensor) -> bool:
    """Check the input, what is before a branch, and what is after it."""
    drop_path = block.drop_path
    return (
        is_plain_inference(x)
        and type(norm) is LayerNorm2d
        and is_stock(norm)
        and type(drop_path) in (nn.Identity, DropPath)
        and not drop_path.training
        and is_stock(drop_path)
        and all(kind.forward is forward for kind, forward in _FORWARDS)
    )


def _is_known_mixer(mixer: Any) -> bool:
    if type(mixer) is MultiHeadSelfAttention:
        linear = _are_linear(mixer.q, mixer.kv, mixer.proj)
        return linear and _are_depthwise([mixer.local_conv])
    if type(mixer) is not ScaleAwareModulation:
        return False
    mhmc: Any = mixer.mhmc
    saa: Any = mixer.saa
    return (
        type(mhmc) is MultiHeadMixedConv
        and type(saa) is ScaleAwareAggregation
        and _are_linear(mixer.s, mixer.v, mixer.proj)
        and _are_depthwise(mhmc.convs)
        and _are_heads(mhmc.convs, mixer.s.out_features, mixer.num_heads)
        and is_pointwise(saa.intra)
        and is_local(saa.bn)
        and is_pointwise(saa.inter)
        and saa.inter.groups == 1
        and _are_fp32([saa.intra, saa.inter])
    )


def _are_heads(convs: Iterable[Any], width: int, heads: int) -> bool:
    sizes = [conv.in_channels for conv in convs if conv.bias is not None]
    return width % heads == 0 and sizes == [width // heads] * heads


def _are_linear(*layers: Any) -> bool:
    return all(type(layer) is nn.Linear for layer in layers) and _are_fp32(
        layers
    )


def _are_depthwise(convs: Iterable[Any]) -> bool:
    return all(map(is_depthwise, convs)) and _are_fp32(convs)


def _are_fp32(layers: Iterable[Any]) -> bool:
    return all(layer.weight.dtype == torch.float32 for layer in layers)
