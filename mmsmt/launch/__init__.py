"""Prepare a config from the command line, and run it with mmengine.

Problems that would stop a run later are reported before it starts.
"""

from .config import LaunchError, add_common_arguments, load_config
from .cpu import fuse_optimizer, keep_freed_memory
from .processes import build_runner, use_gloo_without_gpus
from .ranks import launched_rank
from .testing import prepare_testing
from .training import prepare_training

__all__ = [
    'LaunchError',
    'add_common_arguments',
    'build_runner',
    'fuse_optimizer',
    'keep_freed_memory',
    'launched_rank',
    'load_config',
    'prepare_testing',
    'prepare_training',
    'use_gloo_without_gpus',
]
