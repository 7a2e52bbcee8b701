"""The Scale-Aware Modulation Transformer as an OpenMMLab backbone.

Paper: Lin, Wu, Chen, Huang and Jin, "Scale-Aware Modulation Meet
Transformer", ICCV 2023, https://arxiv.org/abs/2307.08579. Section and
equation numbers below are the paper's. Origin of the released weights:
https://github.com/AFeng-x/SMT.

The equations are those of the released classification code, to rounding; what
differs is how they are computed and what a host expects of a backbone:

- Every activation is kept channels last, as a (B, H, W, C) tensor: linear
  layers and norms act on the last axis, and a convolution sees the same memory
  through ``permute(0, 3, 1, 2)``. Nothing is transposed on the way; only the
  stages' outputs are copied to NCHW, the one layout that mmcv's ops can read.
- Attention is ``torch.nn.functional.scaled_dot_product_attention``, so the
  N x N map is never stored.
- At inference on a CPU, batch norms are folded into their convolutions, and
  what is local is computed in bands of rows that fit the cache
  (:func:`in_bands`).
- Modules are named after the paper. Checkpoints with the released names are
  renamed while they are loaded (:mod:`mmsmt.checkpoints`).
- Stages that no requested output needs are not built.
"""

import math
import platform
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmcv.cnn.bricks import DropPath
from mmengine.model import BaseModule, ModuleList
from mmengine.model.weight_init import trunc_normal_
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.checkpoint import checkpoint

from mmsmt.checkpoints import rename_on_load, strict_init_cfg
from mmsmt.registry import MODELS

ConfigType = dict[str, object]

ALL = slice(None)

# What the temporaries of a band of rows may take: a CPU's cache, about.
BAND_BYTES = 6 * 2**20

# Under another name before torch 2.3.
is_compiling = (
    torch.compiler.is_compiling
    if hasattr(torch.compiler, 'is_compiling')
    else torch._utils.is_compiling
)

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and platform.machine() in (
    'x86_64',
    'AMD64',
)


def nchw(x: Tensor) -> Tensor:
    """View (B, H, W, C) memory as a channels-last (B, C, H, W) tensor."""
    return x.permute(0, 3, 1, 2)


def nhwc(x: Tensor) -> Tensor:
    """View a (B, C, H, W) tensor as (B, H, W, C)."""
    return x.permute(0, 2, 3, 1)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``F.linear`` of (B, H, W, C), in fp32 on x86 CPUs by a convolution.

    oneDNN, which computes a 1 x 1 convolution, chooses its kernels by what the
    CPU can do; MKL, which computes a matrix product, by who made it. The
    dilation says nothing of a single point, but without one PyTorch would not
    leave it to oneDNN on one thread.
    """
    if (
        _HAS_ONEDNN
        and x.dtype == torch.float32
        and x.device.type == 'cpu'
        # Below, oneDNN's gradients are slow, or PyTorch does not ask it.
        and (
            is_compiling()
            or (x.shape[:3].numel() >= 128 and x.numel() > 20480)
        )
    ):
        weight = weight[:, :, None, None]
        return nhwc(F.conv2d(nchw(x), weight, bias, dilation=2))
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """``nn.Linear`` of (B, H, W, C), computed by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_features) to (B, H, W, out_features)."""
        return linear(x, self.weight, self.bias)


def in_parts(layer: nn.Module, x: Tensor, parts: int) -> list[Tensor]:
    """``layer(x)`` in equal parts of the channels, by a product for each.

    Each is dense, as a convolution wants it, where a slice of one wide product
    would have to be copied. Where someone looks at the layer, or has put
    another in its place, it is called as it is.
    """
    if type(layer) is not Linear or _has_hooks(layer):
        return list(layer(x).chunk(parts, dim=3))
    return [
        linear(x, weight, bias)
        for weight, bias in zip(
            layer.weight.chunk(parts), layer.bias.chunk(parts)
        )
    ]


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``softmax(Q K^T / sqrt(d)) V`` of (B, heads, N, d) tensors.

    The N x N map is never stored whole: that is what PyTorch's fused kernels
    are for. The CPU's is no faster in bf16 than in fp32 (without AMX, which
    was not measured); there a few hundred rows of the map at a time, rounded
    to bf16, take half of its time.
    """
    n = k.shape[2]
    if q.dtype != torch.bfloat16 or n < 1024 or not _inferred_on_cpu(q):
        return F.scaled_dot_product_attention(q, k, v)
    out = torch.empty_like(q)
    rows = max(BAND_BYTES // (n * q.element_size()), 1)
    scale = q.shape[3] ** -0.5
    for image in range(q.shape[0]):
        for head in range(q.shape[1]):
            for i in range(0, q.shape[2], rows):
                band = q[image, head, i : i + rows]
                scores = torch.addmm(
                    q.new_empty(1),
                    band,
                    k[image, head].t(),
                    beta=0,
                    alpha=scale,
                )
                out[image, head, i : i + rows] = (
                    scores.softmax(dim=1) @ v[image, head]
                )
    return out


def is_local(norm: nn.Module) -> bool:
    """Whether a norm looks at one place only: a batch norm that applies its
    running statistics, or none (where it was folded into a convolution)."""
    return isinstance(norm, nn.Identity) or _applies_statistics(norm)


def conv_bn(x: Tensor, conv: nn.Conv2d, bn: nn.Module) -> Tensor:
    """``bn(conv(x))``; at inference on a CPU one convolution does both."""
    if not (
        _inferred_on_cpu(x)
        and type(conv) is nn.Conv2d
        and _applies_statistics(bn)
        and not (_has_hooks(conv) or _has_hooks(bn))
    ):
        return bn(conv(x))
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
        2 if conv.kernel_size == (1, 1) else 1,  # as in linear
        conv.groups,
    )


def crop(x: Tensor, rows: slice) -> Tensor:
    """Those rows of (B, H, W, C); all of them at no cost to autograd."""
    return x if rows == ALL else x[:, rows]


def in_bands(
    function: Callable[[Tensor, slice], Tensor],
    x: Tensor,
    width: int,
    halo: int,
) -> Tensor:
    """Apply a local function of a map in bands of rows, without gradients.

    The temporaries of a band fit a CPU's cache, and their memory serves the
    next band; those of a large map are new pages for the system to clear,
    which takes longer than to compute them.

    Args:
        function (Callable): Takes (B, H, W, C) and a slice of H, and returns
            those rows of the result.
        x (Tensor): The map (B, H, W, C).
        width (int): Channels of the widest temporary.
        halo (int): Rows above and below that a row of the result depends on.

    Returns:
        Tensor: The whole result, (B, H, W, ...).
    """
    batch, height = x.shape[:2]
    rows = max(BAND_BYTES // (x.shape[2] * width * x.element_size()), 1)
    if rows >= batch * height:
        return function(x, ALL)
    images = max(rows // height, 1)
    out = None
    for i in range(0, batch, images):
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first, last = max(top - halo, 0), min(bottom + halo, height)
            y = function(
                x[i : i + images, first:last],
                slice(top - first, bottom - first),
            )
            if out is None:
                out = y.new_empty((batch, height, *y.shape[2:]))
            out[i : i + images, top:bottom] = y
    return out


def _inferred_on_cpu(x: Tensor) -> bool:
    """Whether eager code on a CPU may do as it likes with the result."""
    return x.device.type == 'cpu' and not (
        torch.is_grad_enabled() or torch.jit.is_tracing() or is_compiling()
    )


def _applies_statistics(norm: nn.Module) -> bool:
    """Whether it is a batch norm that computes what PyTorch's do, and now from
    its running statistics."""
    return (
        type(norm).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
        and not norm.training
        and norm.running_var is not None
    )


def _has_hooks(module: nn.Module) -> bool:
    """Whether someone looks at, or changes, what its parts get and give."""
    return any(
        m._forward_hooks or m._forward_pre_hooks for m in module.modules()
    )


def recomputed(
    module: nn.Module, function: Callable[..., Tensor], *args: object
) -> Tensor:
    """``function(*args)`` of a module, computed again in the backward pass
    instead of being stored."""
    # The compiler recomputes without side effects by itself.
    still = (
        {}
        if is_compiling()
        else dict(context_fn=lambda: (nullcontext(), _SameStatistics(module)))
    )
    return checkpoint(function, *args, use_reentrant=False, **still)


class _SameStatistics:
    """Keep the running statistics of batch norms while a module recomputes.

    Without this, checkpointing would move them twice in each step.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.norms = [
            (m, m.momentum, m.num_batches_tracked.clone())
            for m in self.module.modules()
            if isinstance(m, _BatchNorm)
            and m.training
            and m.track_running_stats
        ]
        for norm, _, _ in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *error: object) -> None:
        for norm, momentum, count in self.norms:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)


class Stem(nn.Module):
    """Image to tokens at stride 4: conv-BN-ReLU-conv, then LN (Table 13).

    Args:
        in_channels (int): Channels of the image.
        embed_dims (int): Channels of the tokens.
        kernel_size (int): Of the first convolution: 3 or 7.
        norm_cfg (dict): The batch norm between the convolutions.
        with_cp (bool): Recompute them in the backward pass.
    """

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
        self.norm = nn.LayerNorm(embed_dims, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, ceil(H / 2) // 2, ..., embed_dims)."""
        x = x.contiguous(memory_format=torch.channels_last)
        if self.with_cp and torch.is_grad_enabled():
            return recomputed(self, self._forward, x)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        x = F.relu(conv_bn(x, self.conv1, self.bn), inplace=True)
        return self.norm(nhwc(self.conv2(x)))


class PatchEmbed(nn.Module):
    """Halve the resolution between stages: conv 3x3 stride 2, then LN.

    Args:
        in_channels (int): Channels of the stage before.
        embed_dims (int): Channels of the stage after.
    """

    def __init__(self, in_channels: int, embed_dims: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dims, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(embed_dims, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_channels) to (B, ceil(H / 2), ..., embed_dims)."""
        return self.norm(nhwc(self.proj(nchw(x))))


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

    def forward(self, heads: Sequence[Tensor]) -> list[Tensor]:
        """N maps (B, H, W, C / N) to N maps of the same shape."""
        return [
            nhwc(conv(nchw(head))) for conv, head in zip(self.convs, heads)
        ]


class ScaleAwareAggregation(nn.Module):
    """SAA: fuse the scales within and across channel groups (Eq. 2).

    Group i holds channel i of every head. ``intra`` widens each group,
    ``inter`` is point-wise over all of them.

    Args:
        embed_dims (int): Channels over all heads.
        num_heads (int): Number of heads N.
        expand_ratio (int): Widening between ``intra`` and ``inter``.
        norm_cfg (dict): The batch norm between them.
        act_cfg (dict): The activation between them.
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

    def forward(self, heads: Sequence[Tensor]) -> Tensor:
        """N maps (B, H, W, C / N) to the modulator (B, H, W, C)."""
        # Stacking on a new last axis concatenates and shuffles in one copy.
        x = torch.stack(list(heads), dim=-1).flatten(3)
        x = self.act(conv_bn(nchw(x), self.intra, self.bn))
        return nhwc(self.inter(x))


class ScaleAwareModulation(nn.Module):
    """SAM: the value times a modulator made by MHMC and SAA (Eq. 3).

    Args:
        embed_dims (int): Number of channels C.
        num_heads (int): Heads of the mixed convolution.
        expand_ratio (int): Expansion of the aggregation.
        norm_cfg (dict): Batch norm of the aggregation.
        act_cfg (dict): Activation of the aggregation.
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
        self.num_heads = num_heads
        self.width = embed_dims * expand_ratio
        self.v = Linear(embed_dims, embed_dims)
        self.s = Linear(embed_dims, embed_dims)
        self.mhmc = MultiHeadMixedConv(embed_dims, num_heads)
        self.saa = ScaleAwareAggregation(
            embed_dims, num_heads, expand_ratio, norm_cfg, act_cfg
        )
        self.proj = Linear(embed_dims, embed_dims)

    @property
    def halo(self) -> int | None:
        """Rows around a row that its result depends on; None: all of them."""
        return self.num_heads if is_local(self.saa.bn) else None

    def forward(self, x: Tensor, rows: slice = ALL) -> Tensor:
        """(B, H, W, C) to those rows of (B, H, W, C)."""
        heads = in_parts(self.s, x, self.num_heads)
        heads = [crop(head, rows) for head in self.mhmc(heads)]
        return self.proj(self.saa(heads) * self.v(crop(x, rows)))


class MultiHeadSelfAttention(nn.Module):
    """MSA with a depth-wise 3x3 convolution of V added to its output.

    Args:
        embed_dims (int): Number of channels C.
        num_heads (int): Number of attention heads.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.halo = None  # every token sees every other
        self.q = Linear(embed_dims, embed_dims)
        self.kv = Linear(embed_dims, 2 * embed_dims)
        self.local_conv = nn.Conv2d(
            embed_dims, embed_dims, 3, padding=1, groups=embed_dims
        )
        self.proj = Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, rows: slice = ALL) -> Tensor:
        """(B, H, W, C) to those rows of (B, H, W, C)."""
        k, v = in_parts(self.kv, x, 2)
        out = attention(
            self._split(self.q(crop(x, rows))),
            self._split(k),
            self._split(v),
        )
        detail = crop(nhwc(self.local_conv(nchw(v))), rows)
        out = out.transpose(1, 2).reshape(detail.shape)
        return self.proj(out + detail)

    def _split(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, heads, H * W, C / heads)."""
        x = x.flatten(1, 2).unflatten(2, (self.num_heads, -1))
        return x.transpose(1, 2)


class DetailSpecificFFN(nn.Module):
    """Shunted Transformer's feed-forward: a depth-wise detail added inside.

    ``fc2(GELU(h + dwconv(h)))`` with ``h = fc1(x)`` (Section 3.1).

    Args:
        embed_dims (int): Number of channels C.
        hidden_dims (int): Channels between the linear layers.
        act_cfg (dict): The activation.
    """

    def __init__(
        self, embed_dims: int, hidden_dims: int, act_cfg: ConfigType
    ) -> None:
        super().__init__()
        self.width, self.halo = hidden_dims, 1
        self.fc1 = Linear(embed_dims, hidden_dims)
        self.dwconv = nn.Conv2d(
            hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims
        )
        self.act = build_activation_layer(act_cfg)
        self.fc2 = Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor, rows: slice = ALL) -> Tensor:
        """(B, H, W, C) to those rows of (B, H, W, C)."""
        x = self.fc1(x)
        # In place of the convolution's own result, which nobody needs again;
        # in place of a view of it would cost copies in the backward pass.
        x = nhwc(self.dwconv(nchw(x)).add_(nchw(x)))
        return self.fc2(self.act(crop(x, rows)))


class SMTBlock(nn.Module):
    """A token mixer (SAM or MSA) and a feed-forward, each with a residual.

    Args:
        mixer (nn.Module): Maps (B, H, W, C) to (B, H, W, C).
        embed_dims (int): Number of channels C.
        mlp_ratio (float): Hidden channels of the feed-forward, over C.
        drop_path_rate (float): Probability to skip a branch, per sample.
        layer_scale_init_value (float): Initial LayerScale; 0 means none.
        act_cfg (dict): Activation of the feed-forward.
        with_cp (bool): Recompute the block in the backward pass instead of
            storing its activations.
    """

    def __init__(
        self,
        mixer: nn.Module,
        embed_dims: int,
        mlp_ratio: float,
        drop_path_rate: float,
        layer_scale_init_value: float,
        act_cfg: ConfigType,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = mixer
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = DetailSpecificFFN(
            embed_dims, int(embed_dims * mlp_ratio), act_cfg
        )
        self.drop_path = (
            DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()
        )
        self.gamma_1 = self.gamma_2 = None
        if layer_scale_init_value > 0:
            init = torch.full((embed_dims,), float(layer_scale_init_value))
            self.gamma_1 = nn.Parameter(init)
            self.gamma_2 = nn.Parameter(init.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C)."""
        x = self._run(self._mix, x, self.attn)
        return self._run(self._feed_forward, x, self.mlp)

    def _run(
        self,
        half: Callable[[Tensor, slice], Tensor],
        x: Tensor,
        branch: nn.Module,
    ) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return recomputed(branch, half, x, ALL)
        if (
            _inferred_on_cpu(x)
            and not self.training
            and branch.halo is not None
            and not _has_hooks(self)
        ):
            return in_bands(half, x, branch.width, branch.halo)
        return half(x, ALL)

    def _mix(self, x: Tensor, rows: slice) -> Tensor:
        y = self.attn(self.norm1(x), rows)
        y = y if self.gamma_1 is None else self.gamma_1 * y
        return crop(x, rows) + self.drop_path(y)

    def _feed_forward(self, x: Tensor, rows: slice) -> Tensor:
        y = self.mlp(self.norm2(x), rows)
        y = y if self.gamma_2 is None else self.gamma_2 * y
        return crop(x, rows) + self.drop_path(y)


@MODELS.register_module()
class SMT(BaseModule):
    """Scale-Aware Modulation Transformer backbone (Table 13, Section 3).

    Four stages at strides 4, 8, 16 and 32: SAM blocks in the first two, SAM
    and MSA blocks in turn in the third, MSA blocks in the last.

    ============= ===================== ============ ======== ==== ==========
    ``arch``      embed_dims            depths       ratios   stem parameters
    ============= ===================== ============ ======== ==== ==========
    tiny          64, 128, 256, 512     2, 2, 8, 1   4 4 4 2  3    10.994 M
    small         64, 128, 256, 512     3, 4, 18, 2  4 4 4 2  3    22.038 M
    small-paper   64, 128, 256, 512     3, 4, 18, 1  4 4 4 2  7    19.927 M
    base          64, 128, 256, 512     4, 6, 28, 2  8 6 4 2  7    31.524 M
    large         96, 192, 384, 768     4, 6, 28, 4  8 6 4 2  7    79.821 M
    ============= ===================== ============ ======== ==== ==========

    There are two SMT-S: ``small`` is the one with released weights,
    ``small-paper`` the one of Table 13, whose size the paper's detection and
    segmentation tables report; no weights of it were released. Table 13
    prints depth 3 for the last stage of SMT-L; only 4 gives its 80.5 M.
    SMT-M is left out: its row in Table 13 has 7.85 M parameters, not the 6.5 M
    of Table 14, and no weights exist.

    Args:
        arch (str | dict): One of the names above, or a dict with the keys
            ``embed_dims``, ``depths``, ``mlp_ratios`` (four values each) and
            ``stem_kernel_size`` (odd), and optionally ``sam_heads`` (int,
            default 4), ``expand_ratio`` (int, default 2) and ``msa_heads``
            (two values: third and fourth stage, default (8, 16)). Defaults
            to ``'tiny'``.
        in_channels (int): Channels of the input image. Defaults to 3.
        out_indices (Sequence[int]): Which stages to return, 0 to 3. Stages
            after the last one are not built. Defaults to (0, 1, 2, 3).
        drop_path_rate (float): Stochastic depth of the last block; it grows
            linearly from 0 over all blocks of the arch. Defaults to 0.
        layer_scale_init_value (float): Initial LayerScale, 0 for none. The
            released ImageNet-22K weights have it, with 1e-4. Defaults to 0.
        frozen_stages (int): -1 freezes nothing, 0 the stem, n the stem and
            the first n stages. Defaults to -1.
        norm_eval (bool): Keep batch norms in evaluation mode while training.
            Defaults to False.
        norm_cfg (dict): Batch norm of the stem and of SAA (``BN``,
            ``SyncBN``, ...). Layer norms are fixed. Defaults to
            ``dict(type='BN')``.
        act_cfg (dict): Activation of SAA and of the feed-forward. Defaults
            to ``dict(type='GELU')``.
        with_cp (bool): Recompute stem and blocks in the backward pass to save
            memory. Defaults to False.
        init_cfg (dict | list[dict], optional): With ``dict(type='Pretrained',
            checkpoint=...)`` the weights are loaded whole or not at all (see
            :func:`mmsmt.checkpoints.load`). Without one, linear weights are
            drawn from a truncated normal (std 0.02), convolutions from a
            normal with std ``sqrt(2 / fan_out)``. Defaults to None.

    Raises:
        ValueError: An argument is out of its range; the message says what
            is allowed.
        TypeError: An argument is of the wrong type.

    Examples:
        >>> import torch
        >>> from mmsmt import SMT
        >>> model = SMT('tiny').eval()
        >>> for x in model(torch.rand(1, 3, 224, 224)):
        ...     print(tuple(x.shape))
        (1, 64, 56, 56)
        (1, 128, 28, 28)
        (1, 256, 14, 14)
        (1, 512, 7, 7)
    """

    ARCHS: dict[str, dict] = {
        'tiny': dict(
            embed_dims=(64, 128, 256, 512),
            depths=(2, 2, 8, 1),
            mlp_ratios=(4, 4, 4, 2),
            stem_kernel_size=3,
        ),
        'small': dict(
            embed_dims=(64, 128, 256, 512),
            depths=(3, 4, 18, 2),
            mlp_ratios=(4, 4, 4, 2),
            stem_kernel_size=3,
        ),
        'small-paper': dict(
            embed_dims=(64, 128, 256, 512),
            depths=(3, 4, 18, 1),
            mlp_ratios=(4, 4, 4, 2),
            stem_kernel_size=7,
        ),
        'base': dict(
            embed_dims=(64, 128, 256, 512),
            depths=(4, 6, 28, 2),
            mlp_ratios=(8, 6, 4, 2),
            stem_kernel_size=7,
        ),
        'large': dict(
            embed_dims=(96, 192, 384, 768),
            depths=(4, 6, 28, 4),
            mlp_ratios=(8, 6, 4, 2),
            stem_kernel_size=7,
        ),
    }
    ARCH_DEFAULTS = dict(sam_heads=4, expand_ratio=2, msa_heads=(8, 16))

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: ConfigType = dict(type='BN'),
        act_cfg: ConfigType = dict(type='GELU'),
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=strict_init_cfg(init_cfg))
        settings = self._parse_arch(arch)
        self.arch = arch
        self.loaded_from: str | None = None
        self.embed_dims = settings['embed_dims']
        self.depths = settings['depths']
        self.in_channels = _check_int('in_channels', in_channels, 1)
        self.out_indices = self._parse_out_indices(out_indices)
        self.num_stages = max(self.out_indices) + 1
        self.frozen_stages = _check_int(
            'frozen_stages', frozen_stages, -1, self.num_stages
        )
        self.norm_eval = norm_eval
        if not 0 <= drop_path_rate < 1:
            raise ValueError(
                f'drop_path_rate must be in [0, 1), got {drop_path_rate}'
            )
        if layer_scale_init_value < 0:
            raise ValueError(
                'layer_scale_init_value must be 0 (no LayerScale) or '
                f'positive, got {layer_scale_init_value}'
            )

        rates = torch.linspace(
            0, drop_path_rate, sum(self.depths), device='cpu'
        ).tolist()
        for i in range(self.num_stages):
            dims = self.embed_dims[i]
            embed = (
                Stem(
                    in_channels,
                    dims,
                    settings['stem_kernel_size'],
                    norm_cfg,
                    with_cp,
                )
                if i == 0
                else PatchEmbed(self.embed_dims[i - 1], dims)
            )
            blocks = ModuleList()
            for j in range(self.depths[i]):
                if i < 2 or (i == 2 and j % 2 == 0):
                    mixer = ScaleAwareModulation(
                        dims,
                        settings['sam_heads'],
                        settings['expand_ratio'],
                        norm_cfg,
                        act_cfg,
                    )
                else:
                    heads = settings['msa_heads'][i - 2]
                    mixer = MultiHeadSelfAttention(dims, heads)
                blocks.append(
                    SMTBlock(
                        mixer,
                        dims,
                        settings['mlp_ratios'][i],
                        rates[sum(self.depths[:i]) + j],
                        layer_scale_init_value,
                        act_cfg,
                        with_cp,
                    )
                )
            self.add_module(f'patch_embed{i + 1}', embed)
            self.add_module(f'block{i + 1}', blocks)
            self.add_module(f'norm{i + 1}', nn.LayerNorm(dims, eps=1e-6))

        self._register_load_state_dict_pre_hook(
            rename_on_load, with_module=True
        )
        self._freeze_stages()

    @classmethod
    def _parse_arch(cls, arch: str | dict) -> dict:
        if isinstance(arch, str):
            if arch not in cls.ARCHS:
                raise ValueError(
                    f"Unknown arch '{arch}': choose one of "
                    f'{", ".join(cls.ARCHS)}, or give a dict'
                )
            return {**cls.ARCH_DEFAULTS, **cls.ARCHS[arch]}
        if not isinstance(arch, dict):
            raise TypeError(
                f'arch must be a str or a dict, got {type(arch).__name__}'
            )
        required = tuple(cls.ARCHS['tiny'])
        missing = [key for key in required if key not in arch]
        unknown = [
            key for key in arch if key not in (*required, *cls.ARCH_DEFAULTS)
        ]
        if missing or unknown:
            raise ValueError(
                f'An arch dict has the keys {", ".join(required)} and may '
                f'have {", ".join(cls.ARCH_DEFAULTS)}; '
                f'missing: {missing}, unknown: {unknown}'
            )
        settings = {**cls.ARCH_DEFAULTS, **arch}
        for key, length in dict(
            embed_dims=4, depths=4, mlp_ratios=4, msa_heads=2
        ).items():
            value = settings[key]
            if (
                not isinstance(value, (list, tuple))
                or len(value) != length
                or not all(isinstance(v, (int, float)) for v in value)
                or min(value) <= 0
            ):
                raise ValueError(
                    f"arch['{key}'] must be {length} positive numbers, "
                    f'got {value!r}'
                )
            if key != 'mlp_ratios':
                for v in value:
                    _check_int(f"arch['{key}']", v, 1)
            settings[key] = tuple(value)
        for key in ('stem_kernel_size', 'sam_heads', 'expand_ratio'):
            _check_int(f"arch['{key}']", settings[key], 1)
        if settings['stem_kernel_size'] % 2 == 0:
            raise ValueError(
                "arch['stem_kernel_size'] must be odd, got "
                f'{settings["stem_kernel_size"]}'
            )
        sam, msa = settings['sam_heads'], settings['msa_heads']
        divisors = [(sam,), (sam,), (sam, msa[0]), (msa[1],)]
        for dims, heads in zip(settings['embed_dims'], divisors):
            for head in heads:
                if dims % head:
                    raise ValueError(
                        f'embed_dims {settings["embed_dims"]} must divide by '
                        f'the number of heads: sam_heads {sam} in stages 1 to '
                        f'3, msa_heads {msa} in stages 3 and 4'
                    )
        return settings

    @staticmethod
    def _parse_out_indices(out_indices: Sequence[int]) -> tuple[int, ...]:
        indices = (
            (out_indices,)
            if isinstance(out_indices, int)
            else tuple(out_indices)
        )
        if not indices or sorted(set(indices) & set(range(4))) != list(
            indices
        ):
            raise ValueError(
                'out_indices must be increasing stage numbers from 0 to 3, '
                f'got {out_indices!r}'
            )
        return indices

    def init_weights(self) -> None:
        """Draw fresh weights, then apply ``init_cfg``."""
        if not self.is_init:
            for m in self.modules():
                if isinstance(m, nn.Linear):
                    trunc_normal_(m.weight, std=0.02)
                    nn.init.zeros_(m.bias)
                elif isinstance(m, nn.Conv2d):
                    fan_out = math.prod(m.kernel_size) * m.out_channels
                    std = math.sqrt(2 / (fan_out // m.groups))
                    nn.init.normal_(m.weight, std=std)
                    if m.bias is not None:
                        nn.init.zeros_(m.bias)
        super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps.

        Args:
            x (Tensor): Images, (B, in_channels, H, W) with H, W >= 32.

        Returns:
            tuple[Tensor]: For each of ``out_indices``, the map of that stage
            after its norm, (B, embed_dims[i], H / 2^(i+2), W / 2^(i+2)),
            contiguous. A side that does not divide is rounded up, but down
            once at stride 4.

        Raises:
            ValueError: The input has another shape.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f'SMT expects images of shape (B, {self.in_channels}, H, W), '
                f'got {tuple(x.shape)}'
            )
        if x.shape[2] < 32 or x.shape[3] < 32:
            raise ValueError(
                'SMT expects images of at least 32 x 32 pixels, got '
                f'{x.shape[2]} x {x.shape[3]} (H x W)'
            )
        outs = []
        for i in range(self.num_stages):
            x = getattr(self, f'patch_embed{i + 1}')(x)
            for block in getattr(self, f'block{i + 1}'):
                x = block(x)
            x = getattr(self, f'norm{i + 1}')(x)
            if i in self.out_indices:
                # Dense NCHW, at the price of a copy: mmcv's RoIAlign reads the
                # memory as that whatever the strides say, without an error.
                outs.append(nchw(x).contiguous())
        return tuple(outs)

    def train(self, mode: bool = True) -> 'SMT':
        """Set the mode, but keep frozen stages and, with ``norm_eval``, batch
        norms in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for m in self.modules():
                if isinstance(m, _BatchNorm):
                    m.eval()
        return self

    def _freeze_stages(self) -> None:
        frozen = [] if self.frozen_stages < 0 else [self.patch_embed1]
        for i in range(1, self.frozen_stages + 1):
            for name in ('patch_embed', 'block', 'norm'):
                frozen.append(getattr(self, f'{name}{i}'))
        for module in frozen:
            module.eval()
            module.requires_grad_(False)


def _check_int(
    name: str, value: int, low: int, high: int | None = None
) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'{name} must be an int, got {value!r}')
    if value < low or (high is not None and value > high):
        allowed = f'>= {low}' if high is None else f'from {low} to {high}'
        raise ValueError(f'{name} must be {allowed}, got {value}')
    return value
