"""Settings that fail hours later are found before training."""

import copy

import pytest
from mmengine.config import Config
from support.configs import CONFIGS

from mmsmt.data.findings import Findings
from mmsmt.data.settings import check_settings

pytestmark = pytest.mark.one_stack

CONFIG = Config.fromfile(CONFIGS / 'mask_rcnn_smt_t_1x.py')


def errors(change) -> str:
    cfg = copy.deepcopy(CONFIG)
    change(cfg)
    findings = Findings()
    check_settings(cfg, findings)
    return '\n'.join(map(str, findings.errors))


@pytest.mark.parametrize('path', CONFIGS.glob('*.py'), ids=lambda x: x.stem)
def test_our_configs_are_fine(path):
    findings = Findings()
    check_settings(Config.fromfile(path), findings)
    assert not len(findings)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (
            dict(save_best='bbox_mAP'),
            ["'bbox_mAP' is no metric", "save_best='coco/bbox_mAP'"],
        ),
        (dict(save_best=['coco/bbox_mAP', 'coco/mask_mAP']), ['mask_mAP']),
        (
            dict(max_keep_ckpt=3),  # reaches save_checkpoint
            ["no argument 'max_keep_ckpt'", "Write 'max_keep_ckpts'"],
        ),
    ],
)
def test_checkpoint_hook(settings, words):
    text = errors(lambda cfg: cfg.default_hooks.checkpoint.update(settings))
    for word in words:
        assert word in text


@pytest.mark.parametrize('name', ['auto', 'coco/bbox_mAP', 'coco/segm_mAP_50'])
def test_metrics_that_exist(name):
    settings = dict(save_best=name)
    assert not errors(
        lambda cfg: cfg.default_hooks.checkpoint.update(settings)
    )


def test_no_validation():
    def change(cfg):
        cfg.default_hooks.checkpoint.save_best = 'auto'
        cfg.val_evaluator = cfg.val_dataloader = cfg.val_cfg = None

    assert 'the config has no validation' in errors(change)


def test_custom_hooks():
    hook = dict(type='EarlyStoppingHook', monitor='loss', patiense=3)
    text = errors(lambda cfg: cfg.update(custom_hooks=[hook]))
    assert "EarlyStoppingHook has no argument 'patiense'" in text
    hook = dict(type='EarlyStoppingHook', monitor='bbox_mAP')
    text = errors(lambda cfg: cfg.update(custom_hooks=[hook]))
    assert "Write monitor='coco/bbox_mAP'" in text
    hook = dict(type='EMAHook', momentum=0.1, strict=False)
    text = errors(lambda cfg: cfg.update(custom_hooks=[hook]))
    assert "EMAHook has no argument 'strict'" in text and '--finetune' in text
    hook = dict(type='EmaHook')
    text = errors(lambda cfg: cfg.update(custom_hooks=[hook]))
    assert "custom_hooks.0: there is no hook 'EmaHook'" in text


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (
            {'norm_decay_multi': 0},
            ['paramwise_cfg: nothing', 'norm_decay_mult'],
        ),
        (
            {'custom_keys': {'backbone': dict(lr_multi=0.1)}},
            ['custom_keys.backbone: nothing', "Write 'lr_mult'"],
        ),
        ({'custom_keys': {'norm': dict(decay_mult=0, eps=1e-6)}}, []),
    ],
)
def test_multipliers(settings, words):
    text = errors(lambda cfg: cfg.optim_wrapper.update(paramwise_cfg=settings))
    assert bool(text) == bool(words)
    for word in words:
        assert word in text


def test_plateau():
    def change(cfg):
        cfg.param_scheduler = [dict(type='ReduceOnPlateauLR')]

    text = errors(change)
    assert "param_scheduler.0: monitor='loss' is no metric" in text

    def end_validation(cfg):
        change(cfg)
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None

    assert 'it waits for a validation' in errors(end_validation)


def test_more_ranks_than_classes():
    cfg = Config.fromfile(CONFIGS / 'smt_t_in1k.py')
    cfg.model.head.num_classes = 3
    findings = Findings()
    check_settings(cfg, findings)
    text = '\n'.join(map(str, findings.errors))
    assert 'topk is (1, 5), and the model has 3 classes' in text
