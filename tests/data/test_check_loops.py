"""Loops, checkpoints and schedules that would fail late or in silence."""

import copy

import pytest
from mmengine.config import Config
from support.configs import CONFIGS

from mmsmt.data.findings import Findings
from mmsmt.data.loops import check_loops

pytestmark = pytest.mark.one_stack
EPOCHS = Config.fromfile(CONFIGS / 'mask_rcnn_smt_t_1x.py')
PATHS = [*CONFIGS.glob('*.py'), *CONFIGS.glob('demo/*.py')]
ITERATIONS = Config.fromfile(CONFIGS / 'upernet_smt_t_160k.py')


def find(base: Config, settings: dict) -> list:
    cfg = copy.deepcopy(base)
    cfg.merge_from_dict(settings)
    findings = Findings()
    check_loops(cfg, findings)
    return list(findings)


@pytest.mark.parametrize('path', PATHS, ids=lambda x: x.stem)
def test_our_configs_are_fine(path):
    assert not find(Config.fromfile(path), {})


ERRORS = {
    'fewer epochs': (EPOCHS, {'train_cfg.max_epochs': -1}, 'is -1: nothing'),
    'half an epoch': (EPOCHS, {'train_cfg.max_epochs': 0.5}, 'is 0.5'),
    'no interval': (EPOCHS, {'train_cfg.val_interval': 0}, 'divides by it'),
    'optimizer': (
        EPOCHS,
        {'optim_wrapper.optimizer.type': 'AdamX'},
        "there is no optimizer 'AdamX'",
    ),
    'rate': (EPOCHS, {'optim_wrapper.optimizer.lr': '1e-4'}, 'is the text'),
    'schedule by epoch': (
        ITERATIONS,
        {'param_scheduler.1.by_epoch': True},
        'param_scheduler.1 (PolyLR): it counts epochs',
    ),
}


WARNINGS = {
    'no epoch': (EPOCHS, {'train_cfg.max_epochs': 0}, 'max_epochs is 0'),
    'longer': (
        EPOCHS,
        {'train_cfg.max_epochs': 36},
        'it ends after epoch 12, the run after 36',
    ),
    'shorter': (
        EPOCHS,
        {'train_cfg.max_epochs': 6},
        'epoch 8, 11 is never reached: the run ends after 6',
    ),
    'fewer iterations': (
        ITERATIONS,
        {'train_cfg.max_iters': 40_000},
        'iteration 160001 is never reached',
    ),
    'no checkpoint': (
        EPOCHS,
        {'default_hooks.checkpoint.interval': -1},
        'no checkpoint is saved before the end',
    ),
    'iterations taken for epochs': (
        EPOCHS,
        {'default_hooks.checkpoint.interval': 5000},
        'interval is 5000, of 12 epochs',
    ),
    'checkpoints by epoch': (
        ITERATIONS,
        {'default_hooks.checkpoint.by_epoch': True},
        'it counts epochs, and the loop iterations',
    ),
}


@pytest.mark.parametrize('name', [*ERRORS, *WARNINGS])
def test_faults(name):
    base, settings, words = {**ERRORS, **WARNINGS}[name]
    (finding,) = find(base, settings)
    assert finding.error == (name in ERRORS) and words in str(finding)


@pytest.mark.parametrize(
    'schedule',
    [
        dict(type='LinearLR', by_epoch=True, end=1),
        [dict(type='MultiStepLR', milestones=[8, 11])],  # without an end
        None,
    ],
)
def test_a_constant_rate_is_fine(schedule):
    cfg = copy.deepcopy(EPOCHS)
    cfg.param_scheduler = schedule
    findings = Findings()
    check_loops(cfg, findings)
    assert not len(findings)
