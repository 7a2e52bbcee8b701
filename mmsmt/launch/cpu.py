"""Speed up training on a CPU."""

import ctypes
import os
import platform

import torch
from mmengine.config import Config
from mmengine.utils import digit_version


def keep_freed_memory() -> bool:
    """Make glibc keep the memory that a step frees for the next one.

    Clearing new pages takes a sixth of a training step on a CPU at detection
    size (docs/performance.md); the peak of memory does not change. Nothing is
    changed if the user has set malloc's variables.

    Returns:
        bool: True if glibc accepted the settings; False with another C
        library or with malloc's variables set.
    """
    tuned = [key for key in os.environ if key.startswith('MALLOC_')]
    if tuned or 'glibc.malloc' in os.environ.get('GLIBC_TUNABLES', ''):
        return False
    if platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3  # as in malloc.h
    # Never trim; map only blocks from 1 GiB on, or from 32 MiB, the limit of
    # old versions.
    mapped = any(mallopt(mmap_threshold, 2**n) for n in (30, 25))
    return bool(mapped and mallopt(trim_threshold, -1))


def fuse_optimizer(cfg: Config) -> None:
    """Set a config's optimizer to ``fused``: one kernel per parameter group.

    The equations are the same. mmengine makes a group of each parameter, so
    that PyTorch's loops over them take up to a tenth of a small step.

    Args:
        cfg (Config): The config, changed in place.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer') or {}
    if (
        optimizer.get('type') in ('Adam', 'AdamW', 'SGD')
        and not {'fused', 'foreach', 'capturable'} & set(optimizer)
        and digit_version(torch.__version__) >= digit_version('2.4')
    ):
        optimizer['fused'] = True
