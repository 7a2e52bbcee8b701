"""Scale-Aware Modulation Transformer (SMT), an OpenMMLab backbone.

Paper: Lin, Wu, Chen, Huang and Jin, "Scale-Aware Modulation Meet
Transformer", ICCV 2023, https://arxiv.org/abs/2307.08579. Section, equation
and table numbers below are the paper's. Released weights:
https://github.com/AFeng-x/SMT.

Maps between modules are (B, C, H, W) in channels-last memory.
:mod:`mmsmt.execution` runs the halves of a block (called, recomputed, or in
bands); :mod:`mmsmt.models.fused` computes them at inference on a CPU.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmsmt.execution import run
from mmsmt.execution.contracts import (
    checked_once,
    inferred_on_cpu,
    is_transformed,
)
from mmsmt.execution.memory import keep_freed_memory
from mmsmt.layers.maps import LayerNorm2d, layer_scale
from mmsmt.registry import MODELS

from . import checks, fused
from .arch import ARCHS, Arch, parse_arch
from .branches import (
    DetailSpecificFFN,
    MultiHeadSelfAttention,
    ScaleAwareModulation,
)
from .embedding import PatchEmbed, Stem
from .freezing import FreezableBackbone
from .init import smt_init_first, strict_init_cfg
from .state_dict import layer_depth, rename_on_load

ConfigType = dict[str, Any]


class SMTBlock(nn.Module):
    """A token mixer (SAM or MSA) and a feed-forward, each with a residual.

    Args:
        mixer (nn.Module): Token mixer of (B, C, H, W) maps, with ``halo``.
        embed_dims (int): Number of channels C.
        mlp_ratio (float): Ratio of the feed-forward's hidden channels to C.
        drop_path_rate (float): Probability of skipping a branch, per sample.
        layer_scale_init_value (float): Initial LayerScale; 0 means none.
        act_cfg (dict): Activation of the feed-forward.
        with_cp (bool): Recompute the block in the backward pass.
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
        self.layer_scale_init_value = float(layer_scale_init_value)
        self.norm1 = LayerNorm2d(embed_dims, eps=1e-6)
        self.attn = mixer
        self.norm2 = LayerNorm2d(embed_dims, eps=1e-6)
        self.mlp = DetailSpecificFFN(
            embed_dims, int(embed_dims * mlp_ratio), act_cfg
        )
        self.drop_path = (
            DropPath(drop_path_rate) if drop_path_rate > 0 else nn.Identity()
        )
        self.gamma_1 = self.gamma_2 = None
        if layer_scale_init_value > 0:
            init = torch.full((embed_dims,), self.layer_scale_init_value)
            self.gamma_1 = nn.Parameter(init)
            self.gamma_2 = nn.Parameter(init.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        mix, feed_forward = self._mix, self._feed_forward
        if fused.may_mix(self, x):
            mix = partial(fused.mix, self)
        x = run(mix, x, self.attn, self)
        if fused.may_feed_forward(self, x):
            feed_forward = partial(fused.feed_forward, self)
        return run(feed_forward, x, self.mlp, self)

    @property
    def is_row_wise(self) -> bool:
        """Return whether norms and DropPath take each position alone."""
        norms = type(self.norm1) is type(self.norm2) is LayerNorm2d
        return norms and not self.drop_path.training

    def _mix(self, x: Tensor) -> Tensor:
        y = layer_scale(self.attn(self.norm1(x)), self.gamma_1)
        return x + self.drop_path(y)

    def _feed_forward(self, x: Tensor) -> Tensor:
        y = layer_scale(self.mlp(self.norm2(x)), self.gamma_2)
        return x + self.drop_path(y)


@MODELS.register_module()
class SMT(FreezableBackbone):
    """Scale-Aware Modulation Transformer backbone (Table 13, Section 3).

    Four stages at strides 4, 8, 16 and 32: SAM blocks in the first two,
    alternating SAM and MSA blocks in the third, MSA blocks in the last.

    Args:
        arch (str | dict): ``tiny``, ``small``, ``small-paper``, ``base`` or
            ``large`` (see :data:`mmsmt.models.arch.ARCHS`), or a dict of the
            arguments of :class:`mmsmt.models.arch.Arch`, or of changes to an
            arch: ``dict(base='tiny', sam_heads=1)``. Defaults to ``'tiny'``.
        in_channels (int): Channels of the input image. Defaults to 3.
        out_indices (Sequence[int]): Stages to return, 0 to 3. Stages after
            the last one are not built. Defaults to (0, 1, 2, 3).
        drop_path_rate (float): Stochastic depth of the last block; it grows
            linearly from 0 over all blocks of the arch. Defaults to 0.
        layer_scale_init_value (float): Initial LayerScale, 0 for none. The
            released ImageNet-22K weights need it, as 1e-4. Defaults to 0.
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
            checkpoint=...)`` the weights are loaded completely or not at all
            (:func:`mmsmt.weights.load_weights`). If None, linear weights are
            drawn from a truncated normal (std 0.02), convolutions from a
            normal with std ``sqrt(2 / fan_out)``. Defaults to None.

    Raises:
        ValueError: An argument is out of its range; the message gives the
            allowed values.
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

    ARCHS = ARCHS

    def __init__(
        self,
        arch: str | dict | Arch = 'tiny',
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
        sizes = parse_arch(arch)
        checks.check_rates(drop_path_rate, layer_scale_init_value)
        checks.check_norm(norm_cfg, sizes.embed_dims)
        checks.check_flags(norm_eval=norm_eval, with_cp=with_cp)
        self.arch = arch
        self.loaded_from: str | None = None
        self.embed_dims = sizes.embed_dims
        self.depths = sizes.depths
        self.in_channels = checks.check_int('in_channels', in_channels, 1)
        self.out_indices = checks.parse_out_indices(out_indices)
        self.num_stages = max(self.out_indices) + 1
        self.frozen_stages = checks.check_int(
            'frozen_stages', frozen_stages, -1, self.num_stages
        )
        self.norm_eval = norm_eval
        rates = torch.linspace(
            0, drop_path_rate, sum(self.depths), device='cpu'
        ).tolist()
        self.patch_embed1 = Stem(
            in_channels,
            self.embed_dims[0],
            sizes.stem_kernel_size,
            norm_cfg,
            with_cp,
        )
        for i in range(self.num_stages):
            dims = self.embed_dims[i]
            if i > 0:
                embed = PatchEmbed(self.embed_dims[i - 1], dims)
                self.add_module(f'patch_embed{i + 1}', embed)
            blocks = ModuleList()
            mixer: nn.Module
            for j in range(self.depths[i]):
                if sizes.is_sam(i, j):
                    mixer = ScaleAwareModulation(
                        dims,
                        sizes.sam_heads,
                        sizes.expand_ratio,
                        norm_cfg,
                        act_cfg,
                        sizes.aggregation,
                    )
                else:
                    heads = sizes.msa_heads[i - 2]
                    mixer = MultiHeadSelfAttention(dims, heads)
                blocks.append(
                    SMTBlock(
                        mixer,
                        dims,
                        sizes.mlp_ratios[i],
                        rates.pop(0),
                        layer_scale_init_value,
                        act_cfg,
                        with_cp,
                    )
                )
            self.add_module(f'block{i + 1}', blocks)
            self.add_module(f'norm{i + 1}', LayerNorm2d(dims, eps=1e-6))
        self._register_load_state_dict_pre_hook(
            rename_on_load, with_module=True
        )
        self.freeze_stages()

    @classmethod
    def from_released(cls, name: str, **kwargs: Any) -> 'SMT':
        """Build a backbone with the authors' weights.

        Args:
            name (str): ``tiny``, ``small``, ``base``, ``large-22k`` (trained
                on ImageNet-22K), ``large-22k-ft-224`` or ``large-22k-ft-384``.
            **kwargs: Arguments of :class:`SMT`, and ``adapt_in_channels``.

        Raises:
            ValueError: There are no weights of that name.
            CheckpointError: The weights cannot be downloaded.
        """
        from mmsmt.weights import build_released

        return build_released(cls, name, **kwargs)

    def init_weights(self) -> None:
        """Initialize the weights randomly, then apply ``init_cfg``."""
        with smt_init_first(self):
            super().init_weights()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps.

        Args:
            x (Tensor): Images, (B, in_channels, H, W) with H, W >= 32, in a
                floating-point type.

        Returns:
            tuple[Tensor]: For each of ``out_indices``, the map of that stage
            after its norm, (B, embed_dims[i], H / 2^(i+2), W / 2^(i+2)),
            contiguous. Each halving rounds a side up, except down at
            stride 4.

        Raises:
            TypeError: The input is not a floating-point tensor.
            ValueError: The input has another shape.
        """
        checks.check_images(x, self.in_channels)
        if is_transformed():
            return self._compute(x)
        with checked_once(self, x):
            return self._compute(x)

    def _compute(self, x: Tensor) -> tuple[Tensor, ...]:
        if inferred_on_cpu(x):
            keep_freed_memory()
        outs = []
        for i in range(self.num_stages):
            x = getattr(self, f'patch_embed{i + 1}')(x)
            for block in getattr(self, f'block{i + 1}'):
                x = block(x)
            x = getattr(self, f'norm{i + 1}')(x)
            if i in self.out_indices:
                # mmcv's RoIAlign reads memory as dense NCHW and ignores the
                # strides, without an error.
                outs.append(x.contiguous())
        return tuple(outs)

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> tuple[int, int]:
        """Return the depth of a parameter, and the number of depths.

        For layer-wise learning-rate decay: 0 for the stem, then one depth per
        block; the last depth is the head's.
        """
        mine = param_name.startswith(prefix)
        name = param_name[len(prefix) :] if mine else 'head'
        return layer_depth(name, self.depths[: self.num_stages])
