"""Stem, and downsampling between the stages."""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from mmsmt.execution import run
from mmsmt.execution.contracts import is_stock
from mmsmt.layers.conv import conv_bn, is_local, is_plain_conv
from mmsmt.layers.maps import LayerNorm2d

ConfigType = dict[str, Any]


class Stem(nn.Module):
    """Stem with maps at stride 4: conv, BN, ReLU, conv, LN (Table 13).

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Channels of the first stage.
        kernel_size (int): Kernel size of the first convolution, 3 or 7.
        norm_cfg (dict): Batch norm between the convolutions.
        with_cp (bool): Recompute the stem in the backward pass.
    """

    stride = 4
    band_bytes = 16 * 2**20
    """Bytes of the map between the convolutions in a band: a map of the size
    that :mod:`mmsmt.execution.memory` keeps takes no longer than bands."""

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        kernel_size: int,
        norm_cfg: ConfigType,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.conv1 = nn.Conv2d(
            in_channels,
            embed_dims,
            kernel_size,
            stride=2,
            padding=kernel_size // 2,
            bias=False,
        )
        self.bn = build_norm_layer(norm_cfg, embed_dims)[1]
        self.conv2 = nn.Conv2d(embed_dims, embed_dims, 2, stride=2)
        self.norm = LayerNorm2d(embed_dims, eps=1e-5)

    @property
    def halo(self) -> int | None:
        """Rows of the result next to one on whose input it depends."""
        conv: Any = self.conv1
        pool: Any = self.conv2
        known = (
            is_plain_conv(conv)
            and is_plain_conv(pool)
            and conv.stride == pool.stride == pool.kernel_size == (2, 2)
            and conv.dilation == pool.dilation == (1, 1)
            and pool.padding == (0, 0)
            # A row depends on four rows of the image, and ``padding`` rows
            # above and below them.
            and conv.kernel_size[0] == 2 * conv.padding[0] + 1 <= 9
        )
        return 1 if known else None

    @property
    def is_row_wise(self) -> bool:
        """Return whether the norms take each position alone."""
        return is_local(self.bn) and type(self.norm) is LayerNorm2d

    def height_of(self, height: int) -> int:
        """Return the height of the map of an image."""
        return (height + 1) // 2 // 2

    def forward(self, x: Tensor) -> Tensor:
        """Embed (B, in_channels, H, W) as (B, C, ceil(H / 2) // 2, ...)."""
        x = x.contiguous(memory_format=torch.channels_last)
        return run(self._embed, x, self, self)

    def _embed(self, x: Tensor) -> Tensor:
        x = conv_bn(self.conv1, self.bn, x)
        # In place unless a hook may hold the result.
        x = F.relu(x, inplace=is_stock(self.conv1) and is_stock(self.bn))
        return self.norm(self.conv2(x))


class PatchEmbed(nn.Module):
    """Downsampling between stages: conv 3x3 stride 2, then LN.

    Args:
        in_channels (int): Channels of the previous stage.
        embed_dims (int): Channels of the next stage.
    """

    def __init__(self, in_channels: int, embed_dims: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dims, 3, stride=2, padding=1)
        self.norm = LayerNorm2d(embed_dims, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, embed_dims, ceil(H / 2), ...)."""
        return self.norm(self.proj(x))
