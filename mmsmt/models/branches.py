"""Branches of a block: token mixers and the feed-forward (Section 3).

Equation and table numbers are the paper's. Maps are (B, C, H, W) in
channels-last memory. Functions of :mod:`mmsmt.layers` compute the layers.
"""

from typing import Any

from mmcv.cnn import build_activation_layer, build_norm_layer
from torch import Tensor, nn

from mmsmt.layers.attention import attention
from mmsmt.layers.conv import (
    conv_bn,
    conv_plus_input,
    is_local,
    large_depthwise,
    reach,
)
from mmsmt.layers.linear import linear, linear_heads, linear_parts
from mmsmt.layers.maps import Concatenation, interleave
from mmsmt.layers.recompute import linear_of_gelu

ConfigType = dict[str, Any]


class MultiHeadMixedConv(nn.Module):
    """MHMC: a depth-wise convolution per head, kernels 3, 5, 7, ... (Eq. 1).

    Args:
        embed_dims (int): Channels over all heads.
        num_heads (int): Number of heads N.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        dims = embed_dims // num_heads
        self.convs = nn.ModuleList(
            nn.Conv2d(dims, dims, 3 + 2 * i, padding=1 + i, groups=dims)
            for i in range(num_heads)
        )

    def forward(self, *heads: Tensor) -> tuple[Tensor, ...]:
        """Convolve N maps (B, C / N, H, W) to N maps of the same shape."""
        pairs = zip(self.convs, heads)
        return tuple(large_depthwise(conv, head) for conv, head in pairs)


class ScaleAwareAggregation(nn.Module):
    """SAA: fusion of scales within and across channel groups (Eq. 2).

    Group i holds channel i of every head. ``intra`` widens each group,
    ``inter`` is point-wise over all groups.

    Args:
        embed_dims (int): Channels over all heads.
        num_heads (int): Number of heads N.
        expand_ratio (int): Expansion between ``intra`` and ``inter``.
        norm_cfg (dict): Batch norm after ``intra``.
        act_cfg (dict): Activation before ``inter``.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        expand_ratio: int,
        norm_cfg: ConfigType,
        act_cfg: ConfigType,
    ) -> None:
        super().__init__()
        hidden = embed_dims * expand_ratio
        self.intra = nn.Conv2d(
            embed_dims, hidden, 1, groups=embed_dims // num_heads
        )
        self.bn = build_norm_layer(norm_cfg, hidden)[1]
        self.act = build_activation_layer(act_cfg)
        self.inter = nn.Conv2d(hidden, embed_dims, 1)

    def forward(self, *heads: Tensor) -> Tensor:
        """Fuse N maps (B, C / N, H, W) into the modulator (B, C, H, W)."""
        x = conv_bn(self.intra, self.bn, interleave(heads))
        return linear_of_gelu(self.act, self.inter, x, self.inter)


class ScaleAwareModulation(nn.Module):
    """SAM: product of the value and a modulator by MHMC and SAA (Eq. 3).

    The arguments are those of :class:`ScaleAwareAggregation`, and
    ``aggregation`` of :class:`mmsmt.models.arch.Arch`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        expand_ratio: int,
        norm_cfg: ConfigType,
        act_cfg: ConfigType,
        aggregation: str = 'saa',
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.v = nn.Linear(embed_dims, embed_dims)
        self.s = nn.Linear(embed_dims, embed_dims)
        self.mhmc = MultiHeadMixedConv(embed_dims, num_heads)
        self.saa = (
            ScaleAwareAggregation(
                embed_dims, num_heads, expand_ratio, norm_cfg, act_cfg
            )
            if aggregation == 'saa'
            else Concatenation()
        )
        self.proj = nn.Linear(embed_dims, embed_dims)

    @property
    def halo(self) -> int | None:
        """Rows above and below that a row depends on, or None for all."""
        saa: Any = self.saa
        known = isinstance(saa, (ScaleAwareAggregation, Concatenation))
        if not (known and isinstance(self.mhmc, MultiHeadMixedConv)):
            return None
        local = saa.bn is None or is_local(saa.bn)
        return reach(*self.mhmc.convs) if local else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        heads = linear_heads(self.s, x, self.num_heads)
        modulator = self.saa(*self.mhmc(*heads))
        return linear(self.proj, modulator * linear(self.v, x))


class MultiHeadSelfAttention(nn.Module):
    """MSA with a depth-wise 3x3 convolution of V added to its output.

    Args:
        embed_dims (int): Number of channels C.
        num_heads (int): Number of attention heads.
    """

    halo = None  # every position depends on all positions

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(embed_dims, embed_dims)
        self.kv = nn.Linear(embed_dims, 2 * embed_dims)
        self.local_conv = nn.Conv2d(
            embed_dims, embed_dims, 3, padding=1, groups=embed_dims
        )
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        q = linear(self.q, x)
        k, v = linear_parts(self.kv, x, 2)
        out = attention(q, k, v, self.num_heads)
        return linear(self.proj, out + self.local_conv(v))


class DetailSpecificFFN(nn.Module):
    """Feed-forward of Shunted Transformer, with a depth-wise convolution.

    ``fc2(GELU(h + dwconv(h)))`` with ``h = fc1(x)`` (Section 3.1).

    Args:
        embed_dims (int): Number of channels C.
        hidden_dims (int): Channels between the linear layers.
        act_cfg (dict): Activation before ``fc2``.
    """

    def __init__(
        self, embed_dims: int, hidden_dims: int, act_cfg: ConfigType
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.dwconv = nn.Conv2d(
            hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims
        )
        self.act = build_activation_layer(act_cfg)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    @property
    def halo(self) -> int | None:
        """Rows above and below that a row depends on, or None for all."""
        return reach(self.dwconv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        x = conv_plus_input(self.dwconv, linear(self.fc1, x))
        return linear_of_gelu(
            self.act, self.fc2, x, lambda y: linear(self.fc2, y)
        )
