"""Arguments that a class does not take are told before a run."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from support.configs import CONFIGS

from mmsmt.data.building import check_parts
from mmsmt.data.findings import Findings

PATHS = [*CONFIGS.glob('*.py'), *CONFIGS.glob('demo/*.py')]
CONFIG = Config.fromfile(CONFIGS / 'mask_rcnn_smt_t_1x.py')


def find(cfg: Config) -> list:
    init_default_scope(cfg.default_scope)
    findings = Findings()
    check_parts(cfg, findings)
    return list(findings)


@pytest.mark.parametrize('path', PATHS, ids=lambda x: x.stem)
def test_our_configs_are_fine(path):
    assert not find(Config.fromfile(path))


FAULTS = {
    'optimizer': (
        {'optim_wrapper.optimizer.type': 'SGD'},
        'optim_wrapper.optimizer (SGD)',
        "unexpected keyword argument 'betas'",
    ),
    'scheduler': (
        {'param_scheduler.1.milestone': [3]},
        'param_scheduler.1 (MultiStepLR)',
        "unexpected keyword argument 'milestone'",
    ),
    'dataset': (
        {'train_dataloader.dataset.img_prefix': 'train/'},
        'train_dataloader.dataset',
        "CocoDataset has no argument 'img_prefix'",
    ),
    'transform': (
        {'train_dataloader.dataset.pipeline.3.flip_ratio': 0.5},
        'train_dataloader.dataset.pipeline.3 (RandomFlip)',
        "unexpected keyword argument 'flip_ratio'",
    ),
    'transform of mmdet 2': (
        {'train_dataloader.dataset.pipeline.3.type': 'DefaultFormatBundle'},
        'train_dataloader.dataset.pipeline.3',
        "there is no transform 'DefaultFormatBundle'",
    ),
    'loop': (
        {'train_cfg.max_iters': 100},
        'train_cfg',
        "EpochBasedTrainLoop has no argument 'max_iters'",
    ),
    'metric': (
        {'val_evaluator.ann': 'x.json'},
        'val_evaluator',
        "CocoMetric has no argument 'ann'",
    ),
}


@pytest.mark.one_stack
@pytest.mark.parametrize('name', FAULTS)
def test_faults(name):
    settings, where, words = FAULTS[name]
    cfg = copy.deepcopy(CONFIG)
    cfg.merge_from_dict(settings)
    (finding,) = find(cfg)
    assert finding.error and finding.where == where
    assert words in finding.text


@pytest.mark.one_stack
def test_wrapped_datasets_and_loops_without_a_type():
    cfg = copy.deepcopy(CONFIG)
    step = dict(type='Mosaic', img_scale=(64, 64), size=3)
    cfg.train_dataloader.dataset = dict(
        type='MultiImageMixDataset',
        dataset=cfg.train_dataloader.dataset,
        pipeline=[step],
    )
    cfg.train_cfg = dict(by_epoch=True, max_epochs=5, val_intervals=1)
    loop, transform = find(cfg)
    assert "no argument 'val_intervals'" in loop.text
    assert transform.where == 'train_dataloader.dataset.pipeline.0 (Mosaic)'


@pytest.mark.one_stack
def test_what_other_classes_may_take():
    """A constructor may take arguments out; a dataset may have any."""
    cfg = copy.deepcopy(CONFIG)
    cfg.optim_wrapper.optimizer.layer_decay_rate = 0.8
    assert len(find(cfg)) == 1
    cfg.optim_wrapper.constructor = 'LearningRateDecayOptimizerConstructor'
    assert not find(cfg)

    class Numbers(torch.utils.data.Dataset):
        def __init__(self, root: str, **kwargs: int) -> None:
            pass

    cfg.train_dataloader.dataset = dict(type=Numbers, root='x', more=3)
    assert not find(cfg)


@pytest.mark.one_stack
@pytest.mark.parametrize('key', ['val_dataloader', 'test_cfg'])
def test_parts_that_belong_together(key):
    cfg = copy.deepcopy(CONFIG)
    cfg[key] = None
    (finding,) = find(cfg)
    assert finding.error and finding.where == key
    assert 'belong together' in finding.text
    split = key.split('_')[0]
    for other in ('dataloader', 'cfg', 'evaluator'):
        cfg[f'{split}_{other}'] = None
    assert not find(cfg)
