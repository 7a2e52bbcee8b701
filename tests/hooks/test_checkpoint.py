"""Checkpoints load completely, or in part where that is asked for."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from support.runs import CONFIG, SHORT

from mmsmt import SMT
from mmsmt.hooks.checkpoint import WholeCheckpointHook
from mmsmt.hooks.summary import SummaryHook, warn_of_unused_keys
from mmsmt.weights import CheckpointError


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
    assert 'The checkpoint is loaded in part: ' in output
    assert 'of another shape: roi_head.bbox_head.fc_cls.weight' in output
    assert f"There is no checkpoint in '{tmp_path}' to resume" in output
    assert 'weights    loaded in part from' in output


class Model(torch.nn.Module):
    """A small SMT with a head."""

    def __init__(self) -> None:
        super().__init__()
        arch = dict(base='tiny', depths=(1, 1, 1, 1), stem_kernel_size=3)
        self.backbone = SMT(arch)
        self.neck = torch.nn.Conv2d(512, 8, 1)


@pytest.fixture(scope='module')
def runner():
    return SimpleNamespace(
        model=Model(),
        cfg=Config(dict(load_from='x.pth')),
        logger=logging.getLogger('test'),
        work_dir='w',
        _resume=False,
    )


@pytest.mark.one_stack
def test_hardly_anything_fits(runner):
    """Refuse another model's weights, although the neck's fit."""
    hook = WholeCheckpointHook(strict=False)
    state = dict(runner.model.state_dict())
    other = {k: v for k, v in state.items() if k.startswith('neck')}
    other['backbone.conv1.weight'] = torch.zeros(64, 3, 7, 7)
    with pytest.raises(CheckpointError) as error:
        hook.after_load_checkpoint(runner, dict(state_dict=other))
    assert "'x.pth' is of another model: " in str(error.value)
    names = [k for k in state if k.startswith('backbone.')]
    few = {k: state[k] for k in names[: len(names) // 20]}
    few.update((k, state[k]) for k in state if k.startswith('neck'))
    with pytest.raises(CheckpointError, match='its backbone fit; nothing was'):
        hook.after_load_checkpoint(
            runner,
            dict(
                state_dict=dict(few, **{'neck.weight': 0 * few['neck.weight']})
            ),
        )


@pytest.mark.one_stack
def test_what_was_loaded_is_logged(runner, caplog):
    state = dict(runner.model.state_dict())
    del state['neck.weight']
    checkpoint = dict(state_dict=state)
    WholeCheckpointHook(strict=False).after_load_checkpoint(runner, checkpoint)
    summary = SummaryHook()
    summary.after_load_checkpoint(runner, checkpoint)
    assert summary.loaded == 'loaded in part from x.pth'
    count = len(state)
    assert f'in part: {count} of {count + 1} tensors' in caplog.text


@pytest.mark.one_stack
def test_keys_of_no_parameter(runner, caplog):
    keys = dict(bakbone=dict(lr_mult=0.1), neck=dict(lr_mult=2))
    cfg = Config(
        dict(optim_wrapper=dict(paramwise_cfg=dict(custom_keys=keys)))
    )
    names = [name for name, _ in runner.model.named_parameters()]
    warn_of_unused_keys(SimpleNamespace(cfg=cfg, logger=runner.logger), names)
    assert "custom_keys has 'bakbone'" in caplog.text
    assert "'neck'" not in caplog.text


@pytest.mark.one_stack
def test_a_supervised_detector_for_a_semi_supervised_one(runner):
    """As mmdet loads it: into the student and into the teacher."""
    both = torch.nn.Module()
    both.student, both.teacher = Model(), Model()
    semi = SimpleNamespace(**{**vars(runner), 'model': both})
    checkpoint = dict(state_dict=dict(runner.model.state_dict()))
    WholeCheckpointHook().after_load_checkpoint(semi, checkpoint)
    names = set(checkpoint['state_dict'])
    assert names == set(both.state_dict())
