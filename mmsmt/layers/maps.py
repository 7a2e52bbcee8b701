"""Memory layout of maps, and operations that depend on it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def nchw(x: Tensor) -> Tensor:
    """View (B, H, W, C) memory as a channels-last (B, C, H, W) tensor."""
    return x.permute(0, 3, 1, 2)


def nhwc(x: Tensor) -> Tensor:
    """View a (B, C, H, W) tensor as (B, H, W, C)."""
    return x.permute(0, 2, 3, 1)


class Concatenation(nn.Module):
    """Heads side by side, in place of an aggregation (Table 8)."""

    bn = None

    def forward(self, *heads: Tensor) -> Tensor:
        """Join N maps (B, C / N, H, W) to (B, C, H, W)."""
        return torch.cat(heads, 1)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of a (B, C, H, W) map."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, H, W) to (B, C, H, W), in channels-last memory."""
        x = F.layer_norm(
            nhwc(x), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return nchw(x)


def layer_scale(x: Tensor, gamma: Tensor | None) -> Tensor:
    """Multiply a (B, C, H, W) map by LayerScale (C,), unless it is None."""
    return x if gamma is None else x * gamma[:, None, None]


def on_gpu(x: Tensor) -> bool:
    """Check for CUDA, where grouped convolutions suit dense NCHW memory.

    In channels-last memory cuDNN takes 2 to 7 times as long for gradients of
    SAA's grouped convolution, 3 times for those of 9 x 9 depth-wise ones.
    """
    return x.device.type == 'cuda'


def interleave(maps: Sequence[Tensor]) -> Tensor:
    """Interleave the channels of N maps.

    Args:
        maps (Sequence[Tensor]): N maps (B, C / N, H, W).

    Returns:
        Tensor: (B, C, H, W): channel 0 of each map, channel 1 of each, ...
    """
    if on_gpu(maps[0]):
        return torch.stack(list(maps), dim=2).flatten(1, 2)
    # Stacking on a new last axis concatenates and shuffles in one copy.
    return nchw(torch.stack([nhwc(x) for x in maps], dim=-1).flatten(3))
