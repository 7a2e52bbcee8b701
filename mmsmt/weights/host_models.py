"""Load a host's model completely: detector, segmenter or classifier.

mmengine loads every checkpoint with ``strict=False``: missing weights keep
their random values and are only listed in the log.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
)

from mmsmt.models import SMT
from mmsmt.models.state_dict import StateDict, rename_on_load

from .fetching import CheckpointError
from .fingerprints import find_configs
from .initializers import classifier_state
from .loading import describe_mismatches, identify_archs
from .reading import extract_state_dict

TWINS = ('student', 'teacher')
"""Parts of mmdet's semi-supervised detectors."""
_PARTIAL = 'mmsmt.partial'

HOW_TO_FINETUNE = (
    'To load the matching weights only (fine-tuning to other classes): '
    '--finetune FILE with the train command of mmsmt; with other tools, '
    "custom_hooks=[dict(type='mmsmt.WholeCheckpointHook', strict=False)]"
)


def bare_model(model: Any) -> nn.Module:
    """Return the model inside DDP and test-time-augmentation wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def is_sharded(model: nn.Module) -> bool:
    """Check for FSDP, where each process has a part of each parameter."""
    return isinstance(model, FullyShardedDataParallel)


def whole_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict of the model inside wrappers, on every process.

    Called by all processes, if the model is sharded.
    """
    if not is_sharded(model):
        return bare_model(model).state_dict()
    whole = FullStateDictConfig(rank0_only=False)
    with FullyShardedDataParallel.state_dict_type(
        model, StateDictType.FULL_STATE_DICT, whole
    ):
        return model.state_dict()


def has_smt(model: nn.Module) -> bool:
    """Check that a model contains an SMT."""
    return any(isinstance(module, SMT) for module in model.modules())


def match_names(model: nn.Module, content: Mapping[str, Any]) -> StateDict:
    """Extract a checkpoint's weights, renamed as in the model.

    Args:
        model (nn.Module): A host's model, without wrappers.
        content (Mapping): The checkpoint: weights, bare or under ``model`` or
            ``state_dict``; for a classifier, also in the released form.

    Raises:
        CheckpointError: The checkpoint contains no tensor.
    """
    state = dict(extract_state_dict(content))
    has_smt_backbone = isinstance(getattr(model, 'backbone', None), SMT)
    if has_smt_backbone and 'head.weight' in state:
        whole = classifier_state(state)
        if hasattr(getattr(model, 'head', None), 'fc'):
            state = whole
        elif all(k.startswith('backbone.') for k in model.state_dict()):
            state = {  # without a head
                k: v for k, v in whole.items() if k.startswith('backbone.')
            }
    pair = [name for name in TWINS if hasattr(model, name)]
    if len(pair) == 2 and not any(x.startswith(TWINS) for x in state):
        # mmdet's semi-supervised detectors take a supervised one's twice.
        state = {f'{x}.{name}': v for x in pair for name, v in state.items()}
    for name, module in model.named_modules():
        if isinstance(module, SMT):
            prefix = f'{name}.' if name else ''
            rename_on_load(module, state, prefix)
    return state


def require_whole(model: nn.Module, content: Mapping[str, Any]) -> StateDict:
    """Extract a checkpoint's weights, and compare them with the model's.

    Args:
        model (nn.Module): A host's model, without wrappers.
        content (Mapping): The checkpoint, as :func:`match_names` takes it.

    Returns:
        StateDict: The weights, renamed as in the model.

    Raises:
        CheckpointError: Names or shapes differ.
    """
    state = match_names(model, content)
    problems = describe_mismatches(model.state_dict(), state)
    if problems:
        raise CheckpointError(
            f'The checkpoint does not fit the {type(model).__name__}; nothing '
            f'was loaded.\n{problems}{describe_origin({}, state)}'
            f'{HOW_TO_FINETUNE}'
        )
    return state


def allow_partial_load(state: StateDict) -> StateDict:
    """Mark weights so that :func:`strict_loader` allows a partial load."""
    marked = _StateDict(state)
    marked._metadata = {_PARTIAL: {}}
    return marked


def is_partial(state: Mapping[str, Any] | None) -> bool:
    """Return whether :func:`allow_partial_load` marked the weights."""
    return _PARTIAL in getattr(state, '_metadata', ())


class _StateDict(dict):
    """Dict with metadata, like PyTorch's state dicts."""

    _metadata: dict[str, dict]


def strict_loader(load: Callable[..., None]) -> Callable[..., None]:
    """Wrap mmengine's ``load_state_dict`` to reject partial loads of an SMT.

    Models without an SMT are loaded as before. The module's own
    ``load_state_dict`` is not affected.

    Args:
        load (Callable): ``mmengine.runner.checkpoint.load_state_dict``.
    """

    def load_state_dict(
        module: nn.Module,
        state_dict: Mapping[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Load a state dict as mmengine does, completely.

        Raises:
            CheckpointError: Names or shapes differ from the model's, which is
                unchanged.
        """
        model = bare_model(module)
        if has_smt(model) and is_partial(state_dict):
            state_dict = match_names(model, state_dict)
        elif has_smt(model):
            state_dict = require_whole(model, state_dict)
            print_log(
                f'Checkpoint: all {len(state_dict)} tensors match.',
                logger='current',
            )
        load(module, state_dict, *args, **kwargs)

    return load_state_dict


def describe_origin(
    content: Mapping[str, Any], state: Mapping[str, torch.Tensor]
) -> str:
    """Describe the origin of a checkpoint that does not fit.

    Args:
        content (Mapping): The file's content.
        state (Mapping[str, Tensor]): The file's weights.

    Returns:
        str: A line for each clue, or ''.
    """
    meta = content.get('meta')
    name = meta.get('experiment_name') if isinstance(meta, dict) else None
    if name:
        return f'It was saved by the experiment {name}.\n'
    archs = identify_archs(state)
    if archs:
        return (
            f"It is a backbone of arch '{archs[0][0]}' alone. To start from "
            'it, set model.backbone.init_cfg.checkpoint instead of '
            'load_from; to test, give the checkpoint of a trained model.\n'
        )
    configs = find_configs(state)
    return f'It looks like {" or ".join(configs)}.\n' if configs else ''
