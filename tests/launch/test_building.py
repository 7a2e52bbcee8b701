"""Check what a run says of settings that a class refuses."""

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from support.runs import CONFIG, SHORT

from mmsmt.errors import UserError
from mmsmt.launch.building import explain_building


@pytest.mark.one_stack
@pytest.mark.parametrize(
    ('option', 'expected'),
    [
        (
            'model.backbone.arch=smal',
            "model.backbone (SMT) cannot be built: Unknown arch 'smal': "
            'choose one of tiny,',
        ),
        (
            'default_hooks.logger.interval=0',
            'default_hooks.logger (LoggerHook) cannot be built: interval must',
        ),
        (
            'train_dataloader.batch_size=eight',
            '(AspectRatioBatchSampler) cannot be built: batch_size should be '
            'a positive integer value, but got batch_size=eight',
        ),
        ('model.neck.type=FPM', 'model.neck (FPM) cannot be built: FPM is '),
    ],
)
def test_refused_settings_are_named(tool, coco, tmp_path, option, expected):
    status, output = tool(
        *('train.py', CONFIG, '--data-root', coco, '--no-trial'),
        *('--work-dir', tmp_path / 'run', *SHORT, option),
    )
    assert status == 1
    assert expected in output.rpartition('Error: ')[2], output[-2000:]
    assert 'Traceback' not in output


def test_other_errors_keep_their_traceback():
    """Those of classes that are the user's own, or of no setting."""

    @MODELS.register_module(name='OwnNeck')
    class OwnNeck:
        def __init__(self):
            raise ValueError('a fault in it')

    cfg = Config(dict(neck=dict(type='OwnNeck')))
    try:
        fault = pytest.raises(ValueError, match='a fault')
        with fault, explain_building(cfg):
            MODELS.build(cfg.neck)
        with pytest.raises(KeyError, match='mine'), explain_building(cfg):
            raise KeyError('mine')
        cfg.neck.type = 'NoNeck'
        absent = pytest.raises(UserError, match=r'neck \(NoNeck\) cannot be')
        with absent, explain_building(cfg):
            MODELS.build(cfg.neck)
    finally:
        MODELS.module_dict.pop('OwnNeck')
