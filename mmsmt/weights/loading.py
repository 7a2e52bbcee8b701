"""Load weights into a backbone, completely or not at all."""

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from mmsmt.models import SMT
from mmsmt.models.state_dict import StateDict, our_state

from .fetching import RELEASED_WEIGHTS, CheckpointError
from .reading import read_weights, summarize

FIRST = 'patch_embed1.conv1.weight'
"""Name of the first convolution's weight."""


def load_weights(
    model: SMT,
    checkpoint: str | os.PathLike,
    prefix: str | None = None,
    adapt_in_channels: bool = False,
) -> int:
    """Load a checkpoint into a backbone, completely or not at all.

    Args:
        model (SMT): The backbone.
        checkpoint (str | PathLike): A local path or URL, in any format that
            :func:`read_weights` supports.
        prefix (str, optional): See :func:`read_weights`.
        adapt_in_channels (bool): Adapt the first convolution to the model's
            input channels: :func:`adapt_first_convolution`.

    Returns:
        int: Number of loaded tensors, all tensors of the model.

    Raises:
        CheckpointError: The file cannot be read, or its names or shapes differ
            from the model's, which is unchanged.
    """
    state = our_state(read_weights(checkpoint, prefix), model.num_stages)
    if adapt_in_channels and FIRST in state:
        state[FIRST] = adapt_first_convolution(state[FIRST], model.in_channels)
    return load_state(model, state, str(checkpoint))


def adapt_first_convolution(weight: Tensor, in_channels: int) -> Tensor:
    """Adapt the weight of a convolution of RGB images to other channels.

    As in timm, one channel takes the sum of the three; otherwise the three are
    repeated in turn and scaled to the same sum.

    Args:
        weight (Tensor): (C, 3, K, K).
        in_channels (int): Number of input channels.

    Returns:
        Tensor: (C, in_channels, K, K).
    """
    given = weight.shape[1]
    if in_channels == given:
        return weight
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turns = [i % given for i in range(in_channels)]
    return weight[:, turns] * (given / in_channels)


def load_state(model: SMT, state: Mapping[str, Tensor], source: str) -> int:
    """Load weights into a backbone, completely or not at all.

    Args:
        model (SMT): The backbone.
        state (Mapping[str, Tensor]): Released names or ours; a classifier,
            and stages that the model does not build, are ignored.
        source (str): Origin of the weights, for messages.

    Returns:
        int: Number of loaded tensors, all tensors of the model.

    Raises:
        CheckpointError: Names or shapes differ from the model's, which is
            unchanged.
    """
    ours = our_state(state, model.num_stages)
    problems = describe_mismatches(model.state_dict(), ours)
    if problems:
        raise CheckpointError(
            f"'{source}' does not fit SMT (arch {model.arch!r}); nothing was "
            f'loaded.\n{problems}{_hint(model, ours)}'
        )
    model.load_state_dict(ours, strict=False)
    model.loaded_from = f'all {len(ours)} tensors from {source}'
    model.is_init = True  # else a model around it would draw them anew
    print_log(f'SMT: loaded {model.loaded_from}', logger='current')
    return len(ours)


def describe_mismatches(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> str:
    """Describe the differences of two state dicts in names and shapes.

    ``num_batches_tracked``, which old files lack, may be missing.

    Args:
        wanted (Mapping[str, Tensor]): State dict of the model.
        given (Mapping[str, Tensor]): State dict of the file.

    Returns:
        str: A line for each kind of difference, or '' if there is none.
    """
    missing = [
        name
        for name in wanted
        if name not in given and not name.endswith('num_batches_tracked')
    ]
    unexpected = [name for name in given if name not in wanted]
    shapes = [
        f'{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}'
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    return ''.join(
        f'  {what}: {summarize(names)}\n'
        for what, names in (
            ('missing', missing),
            ('unexpected', unexpected),
            ('of another shape', shapes),
        )
        if names
    )


def identify_archs(state: Mapping[str, Tensor]) -> list[tuple[str, bool]]:
    """Find the archs that fit given weights.

    Args:
        state (Mapping[str, Tensor]): Weights with released names or ours.

    Returns:
        list[tuple[str, bool]]: Names of the archs, with True for LayerScale.
    """
    ours = our_state(state, num_stages=4)
    stem = ours.get(FIRST)
    if stem is None or stem.ndim != 4:
        return []
    layer_scale = any(name.endswith('.gamma_1') for name in ours)
    return [
        (arch, layer_scale)
        for arch in SMT.ARCHS
        if not describe_mismatches(
            _weights_of(arch, stem.shape[1], layer_scale), ours
        )
    ]


@cache
def _weights_of(
    arch: str, in_channels: int, layer_scale: bool
) -> dict[str, Tensor]:
    """Return the state dict of an arch on the meta device."""
    with torch.device('meta'):
        model = SMT(
            arch,
            in_channels=in_channels,
            layer_scale_init_value=float(layer_scale),
        )
    return model.state_dict()


def _hint(model: SMT, ours: StateDict) -> str:
    has = any(name.endswith('.gamma_1') for name in ours)
    wants = any(name.endswith('.gamma_1') for name in model.state_dict())
    hint = ''
    if has and not wants:
        hint = (
            'The file has LayerScale (gamma_1, gamma_2) and the model has '
            'none: set layer_scale_init_value=1e-4.\n'
        )
    elif wants and not has:
        hint = (
            'The model has LayerScale (gamma_1, gamma_2) and the file has '
            'none: leave layer_scale_init_value at 0.\n'
        )
    first = ours.get(FIRST)
    if first is not None and first.shape[1] != model.in_channels:
        hint += (
            f'The file is for {first.shape[1]} input channels, the model has '
            f'{model.in_channels}: adapt_in_channels=True beside checkpoint '
            'in init_cfg adapts the first convolution.\n'
        )
    for arch, _ in identify_archs(ours):
        if arch != model.arch:
            hint += f"The file fits arch '{arch}'.\n"
    return hint


def build_released(kind: type[SMT], name: str, **kwargs: Any) -> SMT:
    """Build a backbone with released weights: :meth:`SMT.from_released`."""
    if name not in RELEASED_WEIGHTS:
        raise ValueError(
            f"There are no released weights '{name}': choose one of "
            f'{", ".join(RELEASED_WEIGHTS)}'
        )
    arch = name.split('-')[0]
    if arch == 'large':  # ImageNet-22K training had LayerScale
        kwargs.setdefault('layer_scale_init_value', 1e-4)
    adapt = kwargs.pop('adapt_in_channels', False)
    model = kind(arch, **kwargs)
    load_weights(model, RELEASED_WEIGHTS[name], adapt_in_channels=adapt)
    return model
