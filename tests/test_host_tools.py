"""The hosts' own train.py and test.py run our configs unchanged."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from support.runs import CONFIG, SHORT, loaders

from mmsmt.data import digits


@pytest.mark.slow
def test_hosts_own_tools(python, root, coco, trained, tmp_path):
    """mmdet's train.py and test.py from its wheel, our config unchanged."""
    tools = Path(find_spec('mmdet').origin).parent / '.mim' / 'tools'
    options = list(SHORT)
    for loader in ('train', 'val', 'test'):
        options.append(f'{loader}_dataloader.dataset.data_root={coco}/')
    for part in ('val', 'test'):
        options.append(
            f'{part}_evaluator.ann_file='
            f'{coco}/annotations/instances_val2017.json'
        )
    output = python(
        *(tools / 'train.py', root / CONFIG, '--work-dir', tmp_path / 'run'),
        *options,
        'train_cfg.max_epochs=1',
        cwd=tmp_path,
    ).stdout
    assert 'Summary' in output and 'coco/segm_mAP' in output
    output = python(
        *(tools / 'test.py', root / CONFIG, tmp_path / 'run/epoch_1.pth'),
        *('--work-dir', tmp_path / 'test'),
        *options,
        cwd=tmp_path,
    ).stdout
    assert 'Checkpoint: all' in output and 'coco/segm_mAP' in output


@pytest.mark.slow
def test_mmseg_s_own_tools(python, root, tmp_path):
    """Its train.py and test.py read our config, bases and all."""
    data = tmp_path / 'data'
    digits.write('ade20k', data, 4, 2, (64, 64))
    options = [
        '--cfg-options',
        'model.backbone.init_cfg=None',
        'model.data_preprocessor.size=(64,64)',
        'model.decode_head.channels=32',
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
        'train_dataloader.dataset.pipeline.2.scale=(64,64)',
        'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
        'val_dataloader.dataset.pipeline.1.scale=(64,64)',
        'test_dataloader.dataset.pipeline.1.scale=(64,64)',
        *loaders(f'dataset.data_root={data}'),
    ]
    config = root / 'configs/upernet_smt_t_160k.py'
    tools = Path(find_spec('mmseg').origin).parent / '.mim' / 'tools'
    run = tmp_path / 'run'
    output = python(
        *(tools / 'train.py', config, '--work-dir', run, *options),
        cwd=tmp_path,
    ).stdout
    assert 'Summary' in output and 'mIoU' in output
    output = python(
        *(tools / 'test.py', config, run / 'iter_2.pth'),
        *('--work-dir', tmp_path / 'test', *options),
        cwd=tmp_path,
    ).stdout
    assert 'Checkpoint: all' in output and 'mIoU' in output
