"""Check schedules that follow a metric."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import ParamSchedulerHook
from mmengine.optim import ReduceOnPlateauLR

from mmsmt.hooks import SafeParamSchedulerHook
from mmsmt.launch.starting import protect


@pytest.mark.one_stack
@pytest.mark.parametrize('named', [False, True])
def test_a_metric_that_gives_nothing_ends_no_run(named):
    """As COCO's, as long as no object is found."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = ReduceOnPlateauLR(
        optimizer, monitor='coco/bbox_mAP', rule='greater', patience=2
    )
    schedulers = [scheduler]
    runner = SimpleNamespace(
        param_schedulers=dict(model=schedulers) if named else schedulers,
        cfg=Config(dict(val_evaluator=dict(type='CocoMetric'))),
    )
    with pytest.raises(KeyError):
        ParamSchedulerHook().after_val_epoch(runner, {})
    hook = SafeParamSchedulerHook()
    hook.after_val_epoch(runner, {})  # counts as no better
    assert scheduler.num_bad_epochs == 1 and scheduler.best < 0
    hook.after_val_epoch(runner, {'coco/bbox_mAP': 0.1})
    assert (scheduler.num_bad_epochs, scheduler.best) == (0, 0.1)
    for _ in range(3):
        hook.after_val_epoch(runner, {})
    assert optimizer.param_groups[0]['lr'] == pytest.approx(0.1)
    hook.after_val_epoch(runner)  # of a validation without metrics
    hook.after_val_epoch(runner, {'other/score': 1})  # of another metric
    scheduler.monitor = 'mAP'
    with pytest.raises(KeyError, match='mAP'):
        hook.after_val_epoch(runner, {'coco/bbox_mAP': 0.1})


def test_runs_have_it():
    for hooks in None, dict(param_scheduler=dict(type='ParamSchedulerHook')):
        cfg = Config(dict(default_hooks=hooks))
        protect(cfg)
        kinds = {key: hook.type for key, hook in cfg.default_hooks.items()}
        assert kinds == dict(
            checkpoint='mmsmt.SafeCheckpointHook',
            param_scheduler='mmsmt.SafeParamSchedulerHook',
        )
