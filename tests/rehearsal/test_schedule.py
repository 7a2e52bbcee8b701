"""A rehearsal is the config made smaller."""

import pytest
from support.configs import load

from mmsmt.rehearsal import schedule


@pytest.mark.parametrize(
    'name, length, milestones',
    [
        ('mask_rcnn_smt_s_1x', 12, [8, 11]),
        ('mask_rcnn_smt_s_3x', 12, [9, 11]),
        ('mask_rcnn_smt_s_3x', 4, [2, 3]),
    ],
)
def test_steps_at_the_corresponding_points(name, length, milestones):
    cfg = load(name)
    assert schedule.shorten_schedule(cfg, length) == 2
    assert cfg.train_cfg.max_epochs == length
    *warmup, steps = cfg.param_scheduler
    assert (steps.milestones, steps.end) == (milestones, length)
    for scheduler in warmup:  # 500 of some 88,000 iterations
        assert (scheduler.begin, scheduler.end) == (0, 2)
    assert cfg.train_cfg.val_interval == 1
    assert cfg.default_hooks.checkpoint.interval == 1


def test_iterations_and_accumulation():
    cfg = load('upernet_smt_s_160k')
    schedule.shorten_schedule(cfg, 20)
    assert cfg.train_cfg.max_iters == 40
    assert cfg.train_cfg.val_interval == 4
    assert cfg.default_hooks.checkpoint.interval == 4
    warmup, poly = cfg.param_scheduler
    # The warm-up multiplies the decay.
    assert (warmup.end, poly.begin, poly.end) == (2, 0, 40)

    cfg = load('dino_smt_s_1x')
    assert schedule.shorten_schedule(cfg, 6) == 2
    assert cfg.train_cfg.max_iters == 12
    (steps,) = cfg.param_scheduler
    assert (steps.milestones, steps.end) == ([11], 12)
    assert cfg.default_hooks.checkpoint.interval == 1

    cfg = load('smt_l_in22k')
    cfg.optim_wrapper.accumulative_counts = 4
    assert schedule.shorten_schedule(cfg, 6) == 8  # of 4 accumulated
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end) == (1, 1, 6)


def test_every_size_is_scaled_once():
    cfg = load('upernet_smt_s_160k')
    schedule.scale_images(cfg, 0.25)
    assert cfg.model.data_preprocessor.size == (128, 128)
    steps = {s.type: s for s in cfg.train_dataloader.dataset.pipeline}
    assert steps['RandomResize'].scale == (512, 128)
    assert steps['RandomCrop'].crop_size == (128, 128)
    for part in ('val', 'test'):  # one object in the config's source
        resize = cfg[f'{part}_dataloader'].dataset.pipeline[1]
        assert resize.scale == (512, 128)
    scales = [s.scale for s in cfg.tta_pipeline[1].transforms[0]]
    assert scales[0] == (256, 64) and scales[-1] == (896, 224)

    cfg = load('smt_t_in1k')
    schedule.scale_images(cfg, 0.25)
    steps = {s.type: s for s in cfg.test_dataloader.dataset.pipeline}
    assert steps['ResizeEdge'].scale == 64
    assert steps['CenterCrop'].crop_size == 56

    crop = dict(
        type='torchvision/RandomResizedCrop', size=224, scale=(0.08, 1.0)
    )
    cfg.train_dataloader.dataset.pipeline = [crop]
    schedule.scale_images(cfg, 0.5)
    (got,) = cfg.train_dataloader.dataset.pipeline
    assert got == dict(crop, size=112)

    cfg, real = load('atss_smt_s_3x'), load('atss_smt_s_3x')
    schedule.scale_images(cfg, 0.5)
    choice = cfg.train_dataloader.dataset.pipeline[3]
    assert choice.transforms[0][0].scales[0] == (240, 666)
    schedule.scale_images(real, 1.0)
    assert real.train_dataloader == load('atss_smt_s_3x').train_dataloader


def test_hooks_at_the_corresponding_points():
    cfg = load('retinanet_smt_s_3x')
    cfg.train_cfg.update(val_begin=24, dynamic_intervals=[(30, 1)])
    cfg.custom_hooks = [
        dict(type='PipelineSwitchHook', switch_epoch=30),
        dict(type='EMAHook', begin_epoch=18),
    ]
    schedule.shorten_schedule(cfg, 6)
    assert cfg.train_cfg.val_begin == 4
    assert cfg.train_cfg.dynamic_intervals == [(5, 1)]
    switch, ema = cfg.custom_hooks
    assert (switch.switch_epoch, ema.begin_epoch) == (5, 3)
    cfg = load('retinanet_smt_s_3x')
    del cfg.default_hooks['checkpoint']
    schedule.shorten_schedule(cfg, 6)
