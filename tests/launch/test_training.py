"""The train command, on digits in COCO's layout, with unchanged configs."""

import hashlib
import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from support.runs import CONFIG, SHORT
from support.small import ARCH

from mmsmt import launch
from mmsmt.data import digits
from mmsmt.ops import operators_in_use


@pytest.mark.smoke
def test_train_says_what_runs(trained, coco):
    work_dir, output = trained
    summary = output.split('Summary\n')[1]
    assert f'data       4 images in {coco}' in summary
    assert 'weights    none: the backbone starts from scratch' in summary
    assert 'parameters 31.14 M, 31.14 M trained' in summary
    assert 'batch      2 = 1 processes x 2; the recipe has 16' in summary
    assert 'lr         0.0002' in summary
    assert 'not scaled: 0.0002, where 2.5e-05 would be' in summary
    assert summary.index('Epoch(train)') > summary.index('not scaled')
    assert 'coco/bbox_mAP' in output and 'coco/segm_mAP' in output
    assert (work_dir / 'epoch_1.pth').is_file()
    (record,) = work_dir.glob('*/run.json')
    found = json.loads(record.read_text())['annotations']
    for split in ('train', 'val'):
        path = coco / f'annotations/instances_{split}2017.json'
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert found[split] == dict(file=str(path), sha256=digest)


def test_run_is_not_overwritten(tool, coco, trained):
    status, output = tool(
        *('train.py', CONFIG, '--data-root', coco),
        *('--work-dir', trained[0], *SHORT),
    )
    assert status == 1
    assert 'holds a run already, up to epoch_1.pth. Use --resume' in output


def test_resume_with_other_classes(tool, coco, trained, tmp_path):
    """Their order is that of the weights."""
    work_dir = shutil.copytree(trained[0], tmp_path / 'run')
    path = work_dir / 'epoch_1.pth'
    content = torch.load(path, weights_only=False)
    classes = content['meta']['dataset_meta']['classes']
    content['meta']['dataset_meta']['classes'] = classes[::-1]
    torch.save(content, path)
    status, output = tool(
        *('train.py', CONFIG, '--data-root', coco, '--work-dir', work_dir),
        *('--resume', *SHORT, 'train_cfg.max_epochs=2'),
    )
    assert status == 1
    assert f'{path}: it has the classes' in output
    assert 'the same in another order' in output


@pytest.mark.slow
def test_resume(python, root, coco, trained, tmp_path):
    work_dir, _ = trained
    output = python(
        *('tools/train.py', CONFIG, '--data-root', coco, '--auto-scale-lr'),
        *('--work-dir', work_dir, '--resume', *SHORT),
        'train_cfg.max_epochs=2',
        cwd=root,
    ).stdout
    assert f'weights    resumed from {work_dir}' in output
    assert 'Checkpoint: all' in output
    assert 'Epoch(train) [2]' in output
    assert 'Epoch(train) [1]' not in output
    assert 'not scaled' not in output


@pytest.mark.slow
@pytest.mark.skipif(
    operators_in_use() == 'compiled',
    reason='a compiled mmcv has no bf16 on a CPU',
)
def test_mixed_precision_on_a_cpu(python, root, coco, tmp_path):
    """``--amp`` is bfloat16 there, through mmcv's operators and back."""
    output = python(
        *('tools/train.py', CONFIG, '--amp', '--data-root', coco),
        *('--work-dir', tmp_path, *SHORT, 'train_cfg.max_epochs=1'),
        cwd=root,
        CUDA_VISIBLE_DEVICES='',
    ).stdout
    assert "type='mmsmt.CPUAmpOptimWrapper'" in output
    losses = re.findall(r'Epoch\(train\).* loss: ([\d.]+|nan)', output)
    assert losses and 'nan' not in losses
    assert 'coco/segm_mAP' in output


@pytest.mark.parametrize(
    ('capability', 'operators', 'dtype'),
    [
        ((8, 0), 'torchvision', 'bfloat16'),
        ((8, 0), 'compiled', None),
        ((7, 5), 'torchvision', None),
    ],
)
def test_mixed_precision_on_a_gpu(monkeypatch, capability, operators, dtype):
    """``--amp`` is bfloat16 where the GPU and the operators have it."""
    from mmengine.config import Config

    from mmsmt.launch import training

    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.get_device_capability', lambda: capability)
    monkeypatch.setattr(training, 'operators_in_use', lambda: operators)
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    training._use_mixed_precision(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.get('dtype') == dtype
    cfg.optim_wrapper.dtype = 'float16'
    training._use_mixed_precision(cfg)
    assert cfg.optim_wrapper.dtype == 'float16'


def test_no_network_before_training(python, root, coco, tmp_path):
    """The released weights cannot be fetched: said at the start, with the
    way to go on."""
    result = python(
        *('tools/train.py', CONFIG, '--data-root', coco),
        *('--work-dir', tmp_path, *SHORT[:1], *SHORT[2:]),
        'model.backbone.init_cfg.checkpoint=http://127.0.0.1:9/smt_tiny.pth',
        cwd=root,
        check=False,
        TORCH_HOME=str(tmp_path / 'torch'),
    )
    assert result.returncode == 1
    assert (
        'Could not download http://127.0.0.1:9/smt_tiny.pth' in result.stdout
    )
    assert (
        str(tmp_path / 'torch/hub/checkpoints/smt_tiny.pth') in result.stdout
    )
    assert 'Traceback' not in result.stdout


def test_pretrained_weights_are_reported(python, root, coco, tmp_path):
    from support import golden

    path = tmp_path / 'smt_tiny.pth'
    torch.save(dict(model=golden.weights('tiny')), path)
    output = python(
        *('tools/train.py', CONFIG, '--data-root', coco),
        *('--work-dir', tmp_path / 'run', *SHORT[:1], *SHORT[2:]),
        f'model.backbone.init_cfg.checkpoint={path}',
        'train_cfg.max_epochs=0',
        cwd=root,
        check=False,
    ).stdout
    assert f'SMT: loaded all 384 tensors from {path}' in output
    assert f'weights    all 384 tensors from {path}' in output


# Of each other host: a stock config, the layout of its data, and what makes it
# an SMT of a moment's training.
OTHER_HOSTS = {
    'mmseg': (
        'upernet/upernet_r50_4xb4-80k_ade20k-512x512.py',
        'ade20k',
        """
model = dict(
    pretrained=None,
    backbone=dict(_delete_=True, type='mmsmt.SMT', arch='tiny'),
    decode_head=dict(
        in_channels=[64, 128, 256, 512], channels=32, num_classes=150),
    auxiliary_head=dict(in_channels=256, channels=32, num_classes=150),
    data_preprocessor=dict(size=(64, 64)),
    test_cfg=dict(mode='whole'))
train_cfg = dict(max_iters=2, val_interval=2)
auto_scale_lr = dict(base_batch_size=16)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=train_pipeline))
""",
        'mIoU',
    ),
    'mmpretrain': (
        'resnet/resnet50_8xb32_in1k.py',
        'imagenet',
        """
model = dict(
    backbone=dict(
        _delete_=True, type='mmsmt.SMT', arch='tiny', out_indices=(3,)),
    head=dict(in_channels=512))
train_cfg = dict(max_epochs=1)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False)
""",
        'accuracy/top1',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('host', OTHER_HOSTS)
def test_segmentation_and_classification(
    python, root, tmp_path, host, monkeypatch
):
    """The same train.py, on digits in those hosts' layouts; its report."""
    monkeypatch.setenv('MMSMT_REPORT', '1')
    stock, layout, changes, metric = OTHER_HOSTS[host]
    folder = Path(find_spec(host).origin).parent / '.mim/configs'
    config = tmp_path / 'mine.py'
    config.write_text(
        f"""
_base_ = [{str(folder / stock)!r}]
{changes}
val_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False)
"""
    )
    digits.write(layout, tmp_path / 'data', 4, 2, (64, 64))
    output = python(
        *('tools/train.py', config, '--data-root', tmp_path / 'data'),
        *('--work-dir', tmp_path / 'run'),
        cwd=root,
    ).stdout
    assert f'data       4 images in {tmp_path}/data' in output
    assert metric in output
    fewer = 'of 2 images where the recipe has 16'
    assert (fewer in output) == (host == 'mmseg')  # it counts iterations
    assert f'Report: {tmp_path}/run/report.html' in output
    page = (tmp_path / 'run/report.html').read_text()
    assert 'By class' in page and 'Confusion: truth in rows' in page
    assert 'data:image/jpeg;base64,' in page  # worst images


@pytest.mark.parametrize(
    'hooks',
    [[], [dict(type='EMAHook'), dict(type='mmsmt.WholeCheckpointHook')]],
    ids=['none', 'an averaged model'],
)
def test_finetune_with_any_hooks(coco, tmp_path, hooks):
    """Load the matching weights, into an averaged model too."""
    from mmengine.model import is_model_wrapper
    from mmengine.runner import Runner

    def config(classes: int):
        text = (
            f"_base_ = ['{Path('configs').resolve()}/retinanet_smt_s_3x.py']\n"
            f'model = dict(bbox_head=dict(num_classes={classes}),'
            f'backbone=dict(_delete_=True, type="mmsmt.SMT", arch={ARCH!r}),'
            f'neck=dict(in_channels={list(ARCH["embed_dims"])}))\n'
            f'custom_hooks = {hooks!r}\n'
        )
        path = tmp_path / f'{classes}.py'
        path.write_text(text)
        return launch.load_config(
            str(path), data_root=str(coco), work_dir=str(tmp_path / 'run')
        )

    cfg = config(3)
    init_default_scope('mmdet')
    trained = MODELS.build(cfg.model)
    trained.init_weights()
    file = tmp_path / 'trained.pth'
    torch.save(dict(state_dict=trained.state_dict(), meta={}), file)

    cfg = config(80)
    launch.prepare_training(cfg, resume='auto', finetune=str(file))
    runner = Runner.from_cfg(cfg)
    runner.call_hook('before_run')
    runner.load_or_resume()
    models = [runner.model]
    models += [h.ema_model for h in runner.hooks if hasattr(h, 'ema_model')]
    assert len(models) == 1 + ('EMAHook' in str(hooks))
    for model in models:
        model = model.module if hasattr(model, 'module') else model
        assert not is_model_wrapper(model)
        loaded = model.state_dict()
        for name, value in trained.state_dict().items():
            if 'retina_cls' in name:
                assert loaded[name].shape != value.shape
            else:
                assert torch.equal(loaded[name], value), name
