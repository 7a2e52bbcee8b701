"""Multi-head attention over all positions of a map."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmsmt.execution import steps
from mmsmt.execution.contracts import inferred_on_cpu, trained_on_cpu

from .maps import nchw, nhwc

FEW = 256
"""Tokens up to which all scores are stored in training in bf16 on a CPU.

There the backward pass of PyTorch's fused kernel takes 80 us for each head of
each image, however small. Forward and backward of 8 images and 8 heads by two
products and a softmax take 0.21 of the fused kernel's time at 64 tokens, 0.37
at 196, 0.45 at 256 and 1.0 at 400; of one image 0.57, 0.54, 0.80 and 0.79.
Measured on an Intel Xeon (AMX, two cores), torch 2.12.1, 2026-11-28; without
AMX 0.28, 0.55, 0.67 and 1.2. In fp32 the fused kernel is as fast."""


def attention(q: Tensor, k: Tensor, v: Tensor, num_heads: int) -> Tensor:
    """Compute ``softmax(Q K^T / sqrt(d)) V`` for each head.

    Args:
        q (Tensor): Queries, (B, C, H, W).
        k (Tensor): Keys, (B, C, H, W).
        v (Tensor): Values, (B, C, H, W).
        num_heads (int): Number of heads; d = C / num_heads.

    Returns:
        Tensor: (B, C, H, W), in channels-last memory.
    """
    batch, _, *size = q.shape
    out = attend(*(_split(x, num_heads) for x in (q, k, v)))
    out = out.transpose(1, 2).flatten(2)
    return nchw(out.view(batch, *size, -1))


def _split(x: Tensor, num_heads: int) -> Tensor:
    """Split (B, C, H, W) into (B, heads, H * W, C / heads)."""
    x = nhwc(x).flatten(1, 2)
    return x.view(*x.shape[:2], num_heads, -1).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute ``softmax(Q K^T / sqrt(d)) V`` of (B, heads, N, d) tensors.

    PyTorch's fused kernels never store the N x N scores. They are not used in
    ONNX, which has no such operator; in training in bf16 on a CPU up to
    :data:`FEW` tokens, where they are slow; and at inference in bf16 on a CPU
    from 1024 tokens on, where a few hundred queries at a time take half of
    their time (AVX-512 without AMX, torch 2.12).
    """
    n = k.shape[2]
    # n comes last: it may be symbolic, and compiled graphs be guarded by it.
    few = q.dtype == torch.bfloat16 and trained_on_cpu(q) and n <= FEW
    if few or torch.onnx.is_in_onnx_export():
        scores = q * q.shape[3] ** -0.5 @ k.transpose(2, 3)
        return scores.softmax(dim=3) @ v
    if q.dtype != torch.bfloat16 or not inferred_on_cpu(q) or n < 1024:
        return F.scaled_dot_product_attention(q, k, v)
    out = torch.empty_like(q)
    count = max(steps.BAND_BYTES // (n * q.element_size()), 1)
    scale = q.shape[3] ** -0.5
    for image in range(q.shape[0]):
        for head in range(q.shape[1]):
            keys = k[image, head].t()
            for i in range(0, q.shape[2], count):
                scores = torch.addmm(
                    q.new_empty(1),
                    q[image, head, i : i + count],
                    keys,
                    beta=0,
                    alpha=scale,
                )
                out[image, head, i : i + count] = (
                    scores.softmax(dim=1) @ v[image, head]
                )
    return out
