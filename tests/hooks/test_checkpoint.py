"""Checkpoints load completely, or in part where that is asked for."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from support.runs import CONFIG, SHORT

from mmsmt import SMT


@pytest.fixture(scope='module')
def strangers(trained, tmp_path_factory):
    """Checkpoints that are not of this model, and what is said of them."""

    folder = tmp_path_factory.mktemp('strangers')
    state = torch.load(
        trained[0] / 'epoch_1.pth', map_location='cpu', weights_only=False
    )
    part = {
        k: v for k, v in state['state_dict'].items() if 'mask_head' not in k
    }
    torch.save(dict(state, state_dict=part), folder / 'part.pth')
    torch.save(SMT('tiny').state_dict(), folder / 'backbone.pth')
    cfg = Config.fromfile('configs/mask_rcnn_smt_s_1x.py')
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    torch.save(model.state_dict(), folder / 'small.pth')
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, words',
    [
        ('part', ['missing: roi_head.mask_head', '(12 in all)', 'saved by']),
        ('backbone', ['missing: ', "arch 'tiny' alone", 'init_cfg']),
        ('small', ['mask_rcnn_smt_s_1x.py or mask_rcnn_smt_s_3x.py']),
    ],
)
def test_strange_checkpoint(
    python, root, coco, strangers, name, words, tmp_path
):
    path = strangers / f'{name}.pth'
    commands = [['tools/test.py', CONFIG, path]]
    if name == 'part':
        commands.append(['tools/train.py', CONFIG])
    for command in commands:
        extra = [f'load_from={path}'] if 'tools/train.py' in command else []
        result = python(
            *(*command, '--data-root', coco, '--work-dir', tmp_path / 'w'),
            *SHORT,
            *extra,
            cwd=root,
            check=False,
        )
        assert result.returncode == 1
        assert 'does not fit the model of' in result.stdout
        for word in words:
            assert word in result.stdout
        assert 'Traceback' not in result.stdout


@pytest.mark.slow
def test_fine_tuning_to_other_classes(python, root, coco, trained, tmp_path):
    """Load the matching weights with --finetune."""
    output = python(
        *('tools/train.py', CONFIG, '--data-root', coco),
        *('--work-dir', tmp_path, '--resume', '--no-check'),
        *('--finetune', trained[0] / 'epoch_1.pth'),
        *(*SHORT, 'train_cfg.max_epochs=0'),
        'model.roi_head.bbox_head.num_classes=5',
        'model.roi_head.mask_head.num_classes=5',
        cwd=root,
        check=False,
    ).stdout
    assert 'The checkpoint is loaded in part.' in output
    assert 'of another shape: roi_head.bbox_head.fc_cls.weight' in output
    assert f"There is no checkpoint in '{tmp_path}' to resume" in output
    assert 'weights    loaded from' in output
