"""Fetch checkpoint files, read them safely, load them completely.

A file is read without running any code from it, and its weights are loaded
completely or not at all.
"""

from .fetching import RELEASED_WEIGHTS, CheckpointError, fetch_checkpoint
from .host_models import strict_loader
from .imagenet22k import imagenet_22k_synsets, imagenet_22k_to_1k
from .initializers import Pretrained, PretrainedClassifier, classifier_state
from .loading import (
    build_released,
    describe_mismatches,
    identify_archs,
    load_state,
    load_weights,
)
from .reading import (
    extract_state_dict,
    read_checkpoint,
    read_classes,
    read_weights,
)

__all__ = [
    'RELEASED_WEIGHTS',
    'CheckpointError',
    'Pretrained',
    'PretrainedClassifier',
    'build_released',
    'classifier_state',
    'describe_mismatches',
    'extract_state_dict',
    'fetch_checkpoint',
    'identify_archs',
    'imagenet_22k_synsets',
    'imagenet_22k_to_1k',
    'load_state',
    'load_weights',
    'read_checkpoint',
    'read_classes',
    'read_weights',
    'strict_loader',
]
