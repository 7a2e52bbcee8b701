"""The command lines, on digits in COCO's layout, with unchanged configs."""

import os
import platform
import re
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import golden
import pytest
import torch
from mmengine.config import Config
from mmengine.utils import digit_version

from mmsmt import launch, weights
from mmsmt.datasets import digits

CONFIG = 'configs/mask_rcnn_smt_t_1x.py'

# What makes a run short; the configs stay as they are.
SHORT = [
    '--cfg-options',
    'model.backbone.init_cfg=None',
    'model.train_cfg.rpn_proposal.max_per_img=50',
    'model.train_cfg.rcnn.sampler.num=16',
    'model.test_cfg.rpn.max_per_img=20',
    'model.test_cfg.rcnn.max_per_img=10',
    'model.test_cfg.rcnn.score_thr=0.0',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'train_dataloader.dataset.pipeline.2.scale=(64,64)',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'val_dataloader.dataset.pipeline.1.scale=(64,64)',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'test_dataloader.dataset.pipeline.1.scale=(64,64)',
    'tta_pipeline.1.transforms.0.0.scale=(64,64)',
    'default_hooks.logger.interval=1',
]


@pytest.fixture(scope='session')
def coco(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'coco'
    digits.write('coco', out, 4, 2, (64, 64))
    return out


@pytest.fixture(scope='session')
def trained(new_python, root, coco, tmp_path_factory):
    """A work dir after one epoch of tools/train.py, and its output."""
    work_dir = tmp_path_factory.mktemp('work') / 'run'
    result = new_python(
        *('tools/train.py', CONFIG, '--data-root', coco),
        *('--work-dir', work_dir, *SHORT, 'train_cfg.max_epochs=1'),
        cwd=root,
    )
    return work_dir, result.stdout


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


def test_run_is_not_overwritten(tool, coco, trained):
    status, output = tool(
        *('train.py', CONFIG, '--data-root', coco),
        *('--work-dir', trained[0], *SHORT),
    )
    assert status == 1
    assert 'holds a run already, up to epoch_1.pth. Use --resume' in output


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
@pytest.mark.parametrize('tta', [False, True])
def test_test(python, new_python, root, coco, trained, tmp_path, tta):
    command = ['tools/test.py', CONFIG, trained[0] / 'epoch_1.pth']
    command += ['--data-root', coco, '--work-dir', tmp_path / 'test']
    command += ['--out', tmp_path / 'all.pkl']
    command += ['--tta'] if tta else ['--show-dir', 'pictures']
    run = python if tta else new_python
    output = run(*command, *SHORT, cwd=root).stdout
    assert 'Checkpoint: all' in output
    assert 'coco/bbox_mAP' in output
    assert ('coco/segm_mAP' in output) != tta
    assert (tmp_path / 'all.pkl').is_file()
    pictures = list((tmp_path / 'test').rglob('pictures/*.jpg'))
    assert len(pictures) == (0 if tta else 2)


@pytest.mark.slow
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
    'optimizer, fused',
    [
        (dict(type='AdamW', lr=1.0), True),
        (dict(type='AdamW', lr=1.0, fused=False), False),
        (dict(type='AdamW', lr=1.0, foreach=True), None),
        (dict(type='Adadelta', lr=1.0), None),
    ],
)
def test_optimizer_is_fused_on_a_cpu(optimizer, fused):
    """Unless the user chose a form, or there is none."""
    cfg = Config(dict(optim_wrapper=dict(optimizer=optimizer)))
    launch.fuse_optimizer(cfg)
    has_kernel = digit_version(torch.__version__) >= digit_version('2.4')
    expected = fused if has_kernel or not fused else None
    assert cfg.optim_wrapper.optimizer.get('fused') == expected


@pytest.mark.parametrize(
    'environ', [{}, {'MALLOC_ARENA_MAX': '2'}, {'GLIBC_TUNABLES': 'x=1'}]
)
def test_freed_memory_is_kept(python, environ):
    """glibc is told so, unless the user tells it otherwise."""
    code = 'from mmsmt import launch; print(launch.keep_freed_memory())'
    output = python('-c', code, **environ).stdout
    glibc = platform.libc_ver()[0] == 'glibc'
    assert f'{glibc and "MALLOC_ARENA_MAX" not in environ}' in output


def test_weights_under_model_are_loaded(trained, coco, tmp_path):
    """mmengine looks under state_dict only, and would load nothing."""
    from mmengine.runner import Runner

    state = weights.extract_state_dict(
        weights.read_checkpoint(trained[0] / 'epoch_1.pth')
    )
    path = tmp_path / 'model.pth'
    torch.save(dict(model=state), path)
    args = SimpleNamespace(
        config=CONFIG,
        work_dir=str(tmp_path / 'run'),
        data_root=str(coco),
        cfg_options=None,
        launcher='none',
        local_rank=0,
    )
    cfg = launch.load_config(args)
    cfg.model.backbone.init_cfg = None
    launch.prepare_testing(cfg, str(path))
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.slow
def test_fine_tuning_to_other_classes(python, root, coco, trained, tmp_path):
    """What fits is loaded, when asked for."""
    output = python(
        *('tools/train.py', CONFIG, '--data-root', coco),
        *('--work-dir', tmp_path, *SHORT, 'train_cfg.max_epochs=0'),
        f'load_from={trained[0] / "epoch_1.pth"}',
        'model.roi_head.bbox_head.num_classes=5',
        'model.roi_head.mask_head.num_classes=5',
        'custom_hooks.0.strict=False',
        cwd=root,
        check=False,
    ).stdout
    assert 'The checkpoint is loaded in part.' in output
    assert 'of another shape: roi_head.bbox_head.fc_cls.weight' in output
    assert 'weights    loaded from' in output


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


def loaders(*settings: str) -> list[str]:
    """The same settings for the train, val and test loader."""
    return [
        f'{name}_dataloader.{setting}'
        for name in ('train', 'val', 'test')
        for setting in ('num_workers=0', 'persistent_workers=False', *settings)
    ]


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


# What is wrong is said at once -----------------------------------------------


def test_no_coco(tool, tmp_path):
    status, output = tool(
        *('train.py', CONFIG, '--work-dir', tmp_path),
        *('--data-root', tmp_path / 'coco'),
    )
    assert status == 1
    for words in (
        f"'{tmp_path}/coco/annotations/instances_train2017.json' is missing",
        'val2017/000000000139.jpg',
        'https://cocodataset.org/#download',
        'make demo',
        '--data-root DIR',
    ):
        assert words in output


@pytest.fixture(scope='module')
def strangers(trained, tmp_path_factory):
    """Checkpoints that are not of this model, and what is said of them."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    from mmsmt import SMT

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


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['train.py', 'configs/none.py'], "no config 'configs/none.py'"),
        (['test.py', CONFIG, 'none.pth'], "no checkpoint 'none.pth'"),
        (
            ['train.py', CONFIG, '--resume', 'none.pth'],
            "no checkpoint 'none.pth' to resume",
        ),
        (
            ['train.py', CONFIG, '--launcher', 'mpi', '--data-root', 0],
            'needs GPUs',
        ),
        (['test.py', CONFIG, 's3://bucket/x.pth'], 'give the local file'),
    ],
)
def test_wrong_arguments(tool, coco, arguments, words, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    arguments = [coco if argument == 0 else argument for argument in arguments]
    status, output = tool(*arguments, '--work-dir', tmp_path)
    assert status == 1
    assert words in output


@pytest.mark.parametrize('command', ['train.py', 'test.py'])
def test_code_in_a_checkpoint_is_not_run(tool, coco, tmp_path, command):
    """mmengine would run it: the file is read safely before."""
    from test_checkpoints import Evil

    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    torch.save(dict(state_dict={}, meta=Evil(os.mkdir, str(trace))), path)
    arguments = [command, CONFIG, '--data-root', coco]
    arguments += ['--work-dir', tmp_path / 'run']
    if command == 'test.py':
        arguments.insert(2, path)
    else:
        arguments += ['--cfg-options', f'load_from={path}']
    status, output = tool(*arguments)
    assert status == 1
    assert 'is refused: it asks to call' in output
    assert not trace.exists()


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
    import golden

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
def test_segmentation_and_classification(python, root, tmp_path, host):
    """The same train.py, on digits in those hosts' layouts."""
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
