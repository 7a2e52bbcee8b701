"""Rename released state dicts to the names of :class:`SMT`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

StateDict = dict[str, Tensor]

# From the released names, and those of the release's detection code, to ours.
_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r'^patch_embed1\.conv\.0\.', 'patch_embed1.conv1.'),
        (r'^patch_embed1\.conv\.1\.', 'patch_embed1.bn.'),
        (r'^patch_embed1\.conv\.3\.', 'patch_embed1.conv2.'),
        (
            r'\.attn\.local_conv_(\d+)\.',
            lambda m: f'.attn.mhmc.convs.{int(m[1]) - 1}.',
        ),
        (r'\.attn\.proj0\.', '.attn.saa.intra.'),
        (r'\.attn\.bn\.', '.attn.saa.bn.'),
        (r'\.attn\.proj1\.', '.attn.saa.inter.'),
        (r'\.attn\.dw_conv\.', '.attn.local_conv.'),
        (r'\.mlp\.dwconv\.dwconv\.', '.mlp.dwconv.'),
    )
)


# Names that an SMT may have in a stage; other names are unexpected.
_STAGE = re.compile(
    r'(?:patch_embed|norm)([1-4])\.'
    r'|block([1-4])\.\d+\.(?:norm[12]|attn|mlp|gamma_[12])(?:\.|$)'
)


def our_name(name: str) -> str:
    """Rename a released parameter or buffer as in :class:`mmsmt.SMT`.

    Names that are already ours are unchanged.
    """
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def our_state(state: Mapping[str, Tensor], num_stages: int) -> StateDict:
    """Rename weights; drop the classifier and stages that are not built.

    Args:
        state (Mapping[str, Tensor]): Released names or ours.
        num_stages (int): Number of stages that are built, 1 to 4.
    """
    renamed = {}
    for name, value in state.items():
        stage = _STAGE.match(name)
        if name.startswith('head.') or (
            stage and int(stage[1] or stage[2]) > num_stages
        ):
            continue
        renamed[our_name(name)] = value
    return renamed


def strip_prefix(
    state: StateDict, prefix: str, partly: bool = False
) -> StateDict:
    """Remove a prefix from all names that start with it.

    Args:
        state (dict[str, Tensor]): Weights by name.
        prefix (str): The prefix, with its dot.
        partly (bool): If only some names start with it, keep those only.
            Defaults to False, which returns such weights unchanged.
    """
    matches = [name.startswith(prefix) for name in state]
    if not (any(matches) if partly else all(matches)):
        return state
    return {
        name[len(prefix) :]: value
        for (name, value), match in zip(state.items(), matches)
        if match
    }


def layer_depth(name: str, depths: Sequence[int]) -> tuple[int, int]:
    """Return the depth of one of our parameters, and the number of depths.

    The stem has depth 0 and block n of all blocks n. A patch embedding
    belongs to the block after it, a stage's norm to the block before it; the
    last depth is that of a head.

    Args:
        name (str): Our name, such as ``block2.0.attn.v.weight``.
        depths (Sequence[int]): Number of blocks in each stage.
    """
    number = sum(depths) + 2
    match = re.match(r'(patch_embed|block|norm)([1-4])\.(\d*)', name)
    if match is None:
        return number - 1, number
    stage = int(match[2])
    before = sum(depths[: stage - 1])
    if match[1] == 'block':
        return before + int(match[3]) + 1, number
    if match[1] == 'norm':
        return before + depths[stage - 1], number
    return (0 if stage == 1 else before + 1), number


def rename_on_load(
    module: Any, state_dict: StateDict, prefix: str, *args: object
) -> None:
    """Rename weights in place, as a load_state_dict pre-hook of an SMT."""
    mine = {
        name: state_dict.pop(name)
        for name in list(state_dict)
        if name.startswith(prefix)
    }
    renamed = our_state(strip_prefix(mine, prefix), module.num_stages)
    state_dict.update({prefix + k: v for k, v in renamed.items()})
