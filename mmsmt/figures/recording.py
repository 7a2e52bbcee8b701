"""Record modulators of SAM blocks and receptive fields of MSA blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from mmsmt.execution import disabled
from mmsmt.models.branches import MultiHeadSelfAttention, ScaleAwareModulation
from mmsmt.models.smt import SMT

SCORES = 2**24
"""Attention scores that are computed at once, 64 MiB."""


@dataclass
class Modulation:
    """Maps of a SAM block: L2 norms over channels, one image.

    Args:
        stage (int): Stage from 1.
        layer (int): Block of the stage from 1.
        kernels (tuple[int, ...]): Kernel sizes of the heads.
        heads (Tensor): (N, H, W) of the outputs of MHMC's heads (Eq. 1).
        after (Tensor): (H, W) of the modulator, the output of SAA (Eq. 2).
    """

    stage: int
    layer: int
    kernels: tuple[int, ...]
    heads: Tensor
    after: Tensor

    @property
    def before(self) -> Tensor:
        """(H, W) of MHMC's output over all heads, the input of SAA."""
        return self.heads.norm(dim=0)


@dataclass
class Field:
    """Relative receptive fields of an MSA block, one per head.

    Args:
        stage (int): Stage from 1.
        layer (int): Block of the stage from 1.
        fields (Tensor): (heads, 2) by distances in the sequence of tokens and
            in the plane.
        uniform (Tensor): (2,), those of attention that is equal to all tokens.
    """

    stage: int
    layer: int
    fields: Tensor
    uniform: Tensor


@dataclass
class Recording:
    """Hold what the blocks of a backbone compute on an image."""

    modulations: list[Modulation] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)


@torch.no_grad()
def record(backbone: SMT, image: Tensor) -> Recording:
    """Run a backbone on an image and record what its blocks compute.

    Args:
        backbone (SMT): The backbone, in evaluation mode.
        image (Tensor): (1, C, H, W), as the model sees it.

    Returns:
        Recording: Modulations of SAM blocks and receptive fields of MSA
        blocks, in order of depth.
    """
    found = Recording()
    with disabled(), _hooks(backbone, found):
        backbone(image)
    return found


@contextmanager
def _hooks(backbone: SMT, found: Recording) -> Iterator[None]:
    handles: list[Any] = []
    for stage, layer, mixer in iter_mixers(backbone):
        if isinstance(mixer, ScaleAwareModulation):
            convs: Any = mixer.mhmc.convs
            kernels = tuple(conv.kernel_size[0] for conv in convs)
            modulation = Modulation(
                stage, layer, kernels, torch.empty(0), torch.empty(0)
            )
            found.modulations.append(modulation)
            handles += [
                mixer.mhmc.register_forward_hook(
                    partial(_keep_heads, modulation)
                ),
                mixer.saa.register_forward_hook(
                    partial(_keep_modulator, modulation)
                ),
            ]
        elif isinstance(mixer, MultiHeadSelfAttention):
            handles.append(
                mixer.register_forward_pre_hook(
                    partial(_keep_field, found, stage, layer)
                )
            )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def iter_mixers(backbone: SMT) -> Iterator[tuple[int, int, Any]]:
    """Yield stage, layer (both from 1) and token mixer of the blocks."""
    for stage in range(1, backbone.num_stages + 1):
        for layer, block in enumerate(getattr(backbone, f'block{stage}'), 1):
            yield stage, layer, block.attn


def _keep_heads(
    modulation: Modulation, module: Any, args: Any, heads: tuple[Tensor, ...]
) -> None:
    norms = [head[0].float().norm(dim=0) for head in heads]
    modulation.heads = torch.stack(norms).cpu()


def _keep_modulator(
    modulation: Modulation, module: Any, args: Any, modulator: Tensor
) -> None:
    modulation.after = modulator[0].float().norm(dim=0).cpu()


def _keep_field(
    found: Recording, stage: int, layer: int, mixer: Any, args: tuple
) -> None:
    x = args[0][0].permute(1, 2, 0)
    size = x.shape[:2]
    shape = size.numel(), mixer.num_heads, -1
    q = mixer.q(x).reshape(shape).transpose(0, 1).float()
    k = mixer.kv(x).chunk(2, -1)[0].reshape(shape).transpose(0, 1).float()
    fields = relative_fields(q, k, *size).cpu()
    found.fields.append(Field(stage, layer, fields, _uniform_field(*size)))


@lru_cache(maxsize=8)
def _uniform_field(height: int, width: int) -> Tensor:
    """Compute the (2,) relative receptive field of uniform attention."""
    zeros = torch.zeros(1, height * width, 1)
    return relative_fields(zeros, zeros, height, width)[0]


def relative_fields(q: Tensor, k: Tensor, height: int, width: int) -> Tensor:
    """Compute the relative receptive fields of attention heads.

    A token's is the mean of its distances to all tokens, weighted by its
    attention to them, over the distance to the farthest; a head's is the mean
    of all tokens. By positions in the sequence it is that of Chen et al., "A
    Simple Single-Scale Vision Transformer for Object Detection and Instance
    Segmentation", ECCV 2022, Section 3.2, which the paper follows in Figure 7.

    Args:
        q (Tensor): (heads, H * W, d) queries.
        k (Tensor): (heads, H * W, d) keys.
        height (int): H.
        width (int): W.

    Returns:
        Tensor: (heads, 2) from 0 to 1, by positions in the sequence and by
        distances in the plane.
    """
    length = height * width
    at = torch.arange(length, device=q.device)
    points = torch.stack((at // width, at % width), dim=1).float()
    totals = q.new_zeros(len(q), 2)
    keys = k.transpose(1, 2) * q.shape[2] ** -0.5
    for i in at.split(max(SCORES // (length * len(q)), 1)):
        scores = (q[:, i] @ keys).softmax(dim=2)
        sequence = (i[:, None] - at).abs().float()
        plane = torch.cdist(points[i], points)
        for part, distances in enumerate((sequence, plane)):
            farthest = distances.amax(dim=1, keepdim=True).clamp(min=1)
            relative = scores * (distances / farthest)
            totals[:, part] += relative.sum(dim=(1, 2))
    return totals / length
