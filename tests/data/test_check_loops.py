"""Loops, checkpoints and schedules that would fail late or in silence."""

import copy

import pytest
from mmengine.config import Config
from support.configs import CONFIGS

from mmsmt.data.findings import Findings
from mmsmt.data.loops import check_loops, count_iterations

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
    'names': (
        EPOCHS,
        {'default_hooks.checkpoint.filename_tmpl': 'ckpt_{}.pt'},
        '--resume finds *.pth',
    ),
    'no interval': (EPOCHS, {'train_cfg.val_interval': 0}, 'divides by it'),
    'optimizer': (
        EPOCHS,
        {'optim_wrapper.optimizer.type': 'AdamX'},
        "there is no optimizer 'AdamX'",
    ),
    'rate': (EPOCHS, {'optim_wrapper.optimizer.lr': '1e-4'}, 'is the text'),
    'endless epoch': (
        EPOCHS,
        {'train_dataloader.sampler.type': 'InfiniteSampler'},
        'InfiniteSampler never ends an epoch',
    ),
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
    'one image': (
        ITERATIONS,
        {'train_dataloader.batch_size': 1},
        'batch_size is 1, and UPerHead normalizes maps of one pixel',
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
    ('images', 'settings', 'words'),
    [
        (
            40,
            {},
            'iteration 500 is never reached: the run has about 240, 48 %',
        ),
        (100, {}, None),
        (1, {'train_dataloader.drop_last': True}, 'drop_last drops all 1'),
        (
            100,
            {
                'param_scheduler.1': dict(
                    type='PolyLR', begin=0, end=160000, by_epoch=False
                )
            },
            'iteration 160000 is never reached: the run has about 600, 0 %',
        ),
    ],
)
def test_iterations_of_epochs(images, settings, words):
    """Count them in 12 epochs with batches of two."""
    cfg = copy.deepcopy(EPOCHS)
    for key, value in settings.items():
        if key == 'param_scheduler.1':
            cfg.param_scheduler[1] = value
        else:
            cfg.merge_from_dict({key: value})
    findings = Findings()
    check_loops(cfg, findings, images)
    assert words in str(*findings) if words else not len(findings)


@pytest.mark.parametrize(
    ('number', 'settings', 'expected'),
    [
        (8, {}, 0),
        (9, {}, 1),
        (9, {'train_dataloader.drop_last': True}, 0),
        (9, {'train_dataloader.sampler.type': 'InfiniteSampler'}, 0),
        (9, {'train_dataloader.dataset.indices': 8}, 0),
        (9, {'model.decode_head.pool_scales': (2, 3, 6)}, 0),
        (9, {'train_dataloader.batch_sampler': None}, 1),
    ],
)
def test_a_last_batch_of_one_image(number, settings, expected):
    cfg = copy.deepcopy(ITERATIONS)
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    cfg.model.decode_head.norm_cfg.type = 'BN'
    cfg.merge_from_dict(settings)
    findings = Findings()
    check_loops(cfg, findings, number)
    assert len(findings.errors) == len(findings) == expected


def test_schedules_of_two_optimizers():
    cfg = copy.deepcopy(ITERATIONS)
    schedulers = cfg.param_scheduler
    other = copy.deepcopy(schedulers)
    cfg.param_scheduler = dict(one=schedulers, two=other)
    findings = Findings()
    check_loops(cfg, findings)
    assert not len(findings)
    cfg.param_scheduler.two[1].by_epoch = True
    check_loops(cfg, findings)
    (finding,) = findings
    assert finding.where.startswith('param_scheduler.two.1 (PolyLR)')
    cfg.param_scheduler.two[1].convert_to_iter_based = True
    check_loops(cfg, findings)
    assert len(findings) == 1


def test_an_interval_that_was_divided():
    assert not find(ITERATIONS, {'train_cfg.val_interval': 160000 / 5})


def test_repeated_images():
    cfg = copy.deepcopy(EPOCHS)
    dataset = cfg.train_dataloader.dataset
    repeated = dict(type='RepeatDataset', times=5, dataset=dataset)
    cfg.train_dataloader.dataset = repeated
    assert count_iterations(cfg, 41) == 103
    cfg.train_dataloader.dataset.type = 'ClassBalancedDataset'
    assert count_iterations(cfg, 41) is None


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
