"""Training on a CPU is sped up."""

import platform

import pytest
import torch
from mmengine.config import Config
from mmengine.utils import digit_version

from mmsmt import launch


@pytest.mark.parametrize(
    'optimizer, fused',
    [
        (dict(type='AdamW', lr=1.0), True),
        (dict(type='AdamW', lr=1.0, fused=False), False),
        (dict(type='AdamW', lr=1.0, foreach=True), None),
        (dict(type='Adadelta', lr=1.0), None),
    ],
)
def test_optimizer_is_fused_on_a_cpu(optimizer, fused):
    """Unless the user chose a form, or there is none."""
    cfg = Config(dict(optim_wrapper=dict(optimizer=optimizer)))
    launch.fuse_optimizer(cfg)
    has_kernel = digit_version(torch.__version__) >= digit_version('2.4')
    expected = fused if has_kernel or not fused else None
    assert cfg.optim_wrapper.optimizer.get('fused') == expected


@pytest.mark.parametrize(
    'environ', [{}, {'MALLOC_ARENA_MAX': '2'}, {'GLIBC_TUNABLES': 'x=1'}]
)
def test_freed_memory_is_kept(python, environ):
    """glibc is told so, unless the user tells it otherwise."""
    code = 'from mmsmt import launch; print(launch.keep_freed_memory())'
    output = python('-c', code, **environ).stdout
    glibc = platform.libc_ver()[0] == 'glibc'
    assert f'{glibc and "MALLOC_ARENA_MAX" not in environ}' in output
