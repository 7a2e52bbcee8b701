"""The test command."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from support import golden
from support.runs import CONFIG, SHORT, loaders

from mmsmt import launch, weights
from mmsmt.analysis.runs import read_run
from mmsmt.data import digits


@pytest.mark.slow
@pytest.mark.parametrize('tta', [False, True])
def test_test(python, root, coco, trained, tmp_path, tta):
    command = ['tools/test.py', CONFIG, trained[0] / 'epoch_1.pth']
    command += ['--data-root', coco, '--work-dir', tmp_path / 'test']
    command += ['--out', tmp_path / 'all.pkl']
    # No training data is read, and its config stays.
    absent = 'train_dataloader.dataset.ann_file=none'
    dumped = tmp_path / 'test' / Path(CONFIG).name
    dumped.parent.mkdir()
    dumped.write_text('# of the training')
    command += (
        ['--tta']
        if tta
        else ['--show-dir', os.path.relpath(tmp_path / 'shown', root)]
    )
    output = python(*command, *SHORT, absent, cwd=root).stdout
    assert 'Checkpoint: all' in output
    assert 'coco/bbox_mAP' in output
    assert ('coco/segm_mAP' in output) != tta
    assert (tmp_path / 'all.pkl').is_file()
    pictures = list(tmp_path.glob('shown/*.jpg'))
    assert len(pictures) == (0 if tta else 2)
    assert dumped.read_text() == '# of the training'
    # What the paper's tables read:
    found = read_run(tmp_path / 'test', Config.fromfile(root / CONFIG))
    assert found.tta if tta else found.test
    result = found.tta or found.test
    assert result.checkpoint == 'epoch_1.pth' and result.coco is False
    assert ('tta/' if tta else '') + 'coco/bbox_mAP' in result.values


def test_weights_under_model_are_loaded(trained, coco, tmp_path):
    """mmengine looks under state_dict only, and would load nothing."""
    from mmengine.runner import Runner

    state = weights.extract_state_dict(
        weights.read_checkpoint(trained[0] / 'epoch_1.pth')
    )
    path = tmp_path / 'model.pth'
    torch.save(dict(model=state), path)
    cfg = launch.load_config(
        CONFIG, work_dir=str(tmp_path / 'run'), data_root=str(coco)
    )
    cfg.model.backbone.init_cfg = None
    launch.prepare_testing(cfg, str(path))
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.slow
def test_classifier_as_released(python, root, tmp_path):
    """The authors' ImageNet file, head included, in both test.py; and
    mmpretrain's train.py."""
    data = tmp_path / 'data'
    digits.write('imagenet', data, 4, 4, (64, 64))
    path = tmp_path / 'smt_tiny.pth'
    weights = golden.weights('tiny')
    golden.save_as_released(weights, path)
    options = [
        '--cfg-options',
        'train_cfg.max_epochs=1',
        'train_dataloader.batch_size=2',
        'train_dataloader.dataset.pipeline.1.scale=64',
        'val_dataloader.dataset.pipeline.1.scale=64',
        'val_dataloader.dataset.pipeline.2.crop_size=64',
        *loaders(f'dataset.data_root={data}'),
    ]
    config = root / 'configs/smt_t_in1k.py'
    tools = Path(find_spec('mmpretrain').origin).parent / '.mim' / 'tools'
    for test in (root / 'tools', tools):
        output = python(
            *(test / 'test.py', config, path),
            *('--work-dir', tmp_path / 'test', *options),
            cwd=tmp_path,
        ).stdout
        assert f'Checkpoint: all {len(weights)} tensors match.' in output
        assert 'accuracy/top1' in output
    output = python(
        *(tools / 'train.py', config, '--work-dir', tmp_path / 'run'),
        *options,
        cwd=tmp_path,
    ).stdout
    assert 'Summary' in output and 'accuracy/top5' in output
