"""The benchmark measures what it says, row by row; no figure is asserted."""

import argparse
import json
import sys

import pytest
import torch
from mmengine.config import Config
from support.plain_smt import PlainSMT

from mmsmt import SMT
from mmsmt.benchmark import command, output, passes, rows, runtimes
from mmsmt.errors import UserError
from mmsmt.paths import configs_dir

DEMO = 'demo/mask_rcnn_smt_t_digits'
DETECTOR = ['--tasks', 'detector']
FOUR = 'no neck with in_channels of four maps'
RELEASE = """
from timm.models.layers import DropPath, to_2tuple, trunc_normal_
from timm.data.transforms import _pil_interp
from ptflops import get_model_complexity_info
from thop import profile
from torch import nn
from timm.models.registry import register_model

class Embed(nn.Conv2d):
    def forward(self, x):
        x = super().forward(x)
        return x.flatten(2).transpose(1, 2), *x.shape[2:]

class SMT(nn.Module):
    def __init__(self, embed_dims, depths, mlp_ratios, head_conv, qkv_bias):
        super().__init__()
        assert to_2tuple(3) == (3, 3) and qkv_bias and head_conv in (3, 7)
        dims = [3, *embed_dims]
        for i in range(4):
            stride = 4 if i == 0 else 2
            embed = Embed(dims[i], dims[i + 1], stride, stride)
            setattr(self, f'patch_embed{i + 1}', embed)
            setattr(self, f'block{i + 1}', nn.ModuleList())
            setattr(self, f'norm{i + 1}', nn.LayerNorm(dims[i + 1]))

@register_model
def smt_t():
    return SMT()
"""


@pytest.fixture
def args(tmp_path):
    """As a measurement gets them, for the rows of SMT tiny on a CPU."""
    (tmp_path / 'models').mkdir()
    (tmp_path / 'models' / 'smt.py').write_text(RELEASE)
    return argparse.Namespace(
        arch='tiny',
        device='cpu',
        release=tmp_path,
        batch=1,
        dtype='fp32',
        channels_last=False,
        size=(64, 96),
        config=None,
    )


def test_rows_are_backbones(args):
    """Every row gives maps at strides 4, 8, 16 and 32."""
    names = [row for row in rows.SMT_ROWS if row != 'mmsmt compiled']
    for row in (*names, 'swin-t', 'convnext-t', 'pvtv2-b2', 'resnet-50'):
        model = rows.build_backbone(args, row)
        model.eval()
        with torch.no_grad():
            outs = model(torch.rand(1, 3, 64, 96))
        sizes = [tuple(out.shape[2:]) for out in outs]
        assert sizes == [(16, 24), (8, 12), (4, 6), (2, 3)], row
        assert type(model).__name__ == {
            'plain': 'PlainSMT',
            'release': 'Released',
            'swin-t': 'SwinTransformer',
            'convnext-t': 'ConvNeXt',
            'pvtv2-b2': 'PyramidVisionTransformerV2',
            'resnet-50': 'ResNet',
        }.get(row, 'SMT')
    assert 'timm' not in sys.modules
    assert rows.build_backbone(args, 'mmsmt with_cp').block1[0].with_cp


@pytest.mark.parametrize('row', runtimes.RUNTIMES)
def test_runtimes_compute_the_backbone(args, row):
    pytest.importorskip('onnx')
    pytest.importorskip(row)
    model = rows.build_backbone(args, row)
    exported = runtimes.Exported(row, model, (2, 3, 64, 96), 'fp32')
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(model(images), exported(images), strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
    args.task, args.row, args.size = 'inference', row, (64, 96)
    measured = passes.measure_pass(args)
    assert measured['seconds'] > 0 and measured['memory'] >= 0
    assert passes.count_cost(args, row) == passes.count_cost(args, 'mmsmt')


@pytest.mark.parametrize(
    ('installed', 'options', 'words'),
    [
        ([], ['--rows', 'openvino'], "pip install 'mmsmt[openvino]'"),
        ([], ['--rows', 'onnxruntime'], "pip install 'mmsmt[export]'"),
        (
            ['onnxruntime'],
            ['--rows', 'onnxruntime', '--dtypes', 'bf16'],
            'inference in bf16 would have no row',
        ),
        (
            ['openvino'],
            ['--rows', 'openvino', '--tasks', 'detector'],
            'detector in fp32 would have no row',
        ),
    ],
)
def test_runtimes_that_cannot(tool_of, monkeypatch, installed, options, words):
    monkeypatch.setattr(command, 'installed_runtimes', lambda: installed)
    status, text = tool_of('benchmark', *options)
    assert status == 2
    assert words in text


def test_runtimes_on_a_gpu(tool_of, monkeypatch):
    """The device is known only after it is measured."""
    monkeypatch.setattr(command, 'installed_runtimes', lambda: ['onnxruntime'])
    monkeypatch.setattr(
        command, 'run_one', lambda *args, **case: dict(device='cuda')
    )
    monkeypatch.setattr(command, 'describe_machine', lambda machine: 'a GPU')
    status, text = tool_of(
        'benchmark', '--rows', 'onnxruntime', '--tasks', 'inference'
    )
    assert status == 2
    assert 'inference in fp32 would have no row' in text


@pytest.mark.parametrize('model', [SMT, PlainSMT])
def test_tasks_do_what_they_say(args, model):
    model = model()
    weight = next(model.parameters())
    before = weight.detach().clone()
    args.task = 'inference'
    passes.make_pass(args, model, (64, 64))()
    assert weight.grad is None and not model.training
    args.task = 'training'
    passes.make_pass(args, model, (64, 64))()
    assert weight.grad.abs().max() > 0 and model.training
    assert torch.equal(weight, before)
    args.task, args.dtype = 'detector', 'bf16'
    detector = rows.build_detector(model)
    rows.keep_in_fp32(detector)
    seen = []
    detector.backbone.register_forward_hook(
        lambda module, inputs, outs: seen.append(inputs[0].shape)
    )
    once = passes.make_pass(args, detector, (96, 128))
    model.zero_grad()
    once()
    assert seen == [(1, 3, 96, 128)]
    assert weight.grad.abs().max() > 0
    assert not torch.equal(weight, before)  # the optimizer stepped


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        (DEMO, ''),
        ('retinanet_smt_s_3x', "model.neck.norm_cfg = dict(type='BN')"),
        ('sparse_rcnn_smt_s_3x', 'model.neck = [model.neck]'),
    ],
)
def test_detector_of_a_config(args, tmp_path, name, changes):
    """Change all weights in a step, in both precisions."""
    path = write_config(tmp_path, name, changes)
    args.task, args.row, args.config = 'detector', 'mmsmt', path
    for args.dtype in ('fp32', 'bf16'):
        torch.manual_seed(0)
        before = rows.build_backbone(args, 'mmsmt')
        torch.manual_seed(0)
        after = passes.build_model(args).backbone
        for a, b in zip(before.parameters(), after.parameters()):
            assert not torch.equal(a, b)


def write_config(folder, name, changes=''):
    """Write a config of the project with changes, statements in Python."""
    cfg = Config.fromfile(configs_dir() / f'{name}.py')
    exec(changes, dict(cfg=cfg, model=cfg.model))
    cfg.dump(folder / 'config.py')
    return str(folder / 'config.py')


@pytest.mark.parametrize(
    ('name', 'changes', 'words'),
    [
        ('dino_smt_s_1x', '', FOUR),
        ('upernet_smt_s_160k', '', 'is of mmseg, not of mmdet'),
        (DEMO, "cfg.default_scope = 'mmseg'", 'is of mmseg, not of mmdet'),
        (DEMO, 'cfg.model = None', 'has no model with a backbone'),
        (DEMO, 'model.backbone = None', 'has no model with a backbone'),
        (DEMO, 'model.neck = None', FOUR),
        (DEMO, 'model.neck = []', FOUR),
        (DEMO, 'model.neck.in_channels = (64, 128, 256)', FOUR),
    ],
)
def test_configs_that_cannot(tool_of, tmp_path, name, changes, words):
    path = write_config(tmp_path, name, changes)
    status, text = tool_of('benchmark', '--config', path, *DETECTOR)
    assert status == 1
    assert words in text


def test_config_without_its_task(tool_of):
    status, text = tool_of('benchmark', '--config', 'none.py')
    assert status == 2 and '--config needs --tasks detector' in text
    status, text = tool_of('benchmark', '--config', 'none.py', *DETECTOR)
    assert status == 1 and 'There is no config' in text


CHANNELS = """
cfg.data_preprocessor = model.pop('data_preprocessor')
cfg.data_preprocessor.update(mean=[0] * 4, std=[1] * 4)
"""


@pytest.mark.parametrize('changes', [CHANNELS, 'model.neck.num_outs = 4'])
def test_detectors_that_cannot_be_trained(args, tmp_path, changes):
    """Name the config if building it or its first step fails."""
    args.config = write_config(tmp_path, DEMO, changes)
    args.task, args.row = 'detector', 'mmsmt'
    with pytest.raises(UserError) as error:
        passes.build_model(args)
    assert 'config.py' in str(error.value)
    assert 'on three-channel images' in str(error.value)
    assert 'AssertionError' in str(error.value)


def test_other_tasks_are_not_of_the_config(args, monkeypatch):
    def fail(args, model):
        raise RuntimeError('no compiler')

    monkeypatch.setattr(passes, 'warm_up', fail)
    args.task, args.row, args.config = 'training', 'mmsmt', 'config.py'
    with pytest.raises(RuntimeError, match='no compiler'):
        passes.build_model(args)


def test_detectors_with_weights_of_their_own(args, tmp_path):
    """Call the detector's own init_weights: DINO fills its level_embed."""
    changes = """
model.neck.update(in_channels=[64, 128, 256, 512], num_outs=5)
model.num_feature_levels = 5
model.init_cfg = dict(type='Pretrained', checkpoint='none.pth')
model.encoder.layer_cfg.self_attn_cfg.num_levels = 5
model.decoder.layer_cfg.cross_attn_cfg.num_levels = 5
"""
    path = write_config(tmp_path, 'dino_smt_s_1x', changes)
    model = rows.build_backbone(args, 'mmsmt')
    detector = rows.build_detector(model, path)
    assert 0.5 < detector.level_embed.std() < 2


def test_cost_is_of_the_task(args):
    args.size, args.task = (512, 512), 'inference'
    inference = {
        row: passes.count_cost(args, row)
        for row in ('mmsmt', 'plain', 'swin-t')
    }
    # The plain form's head of 1000 classes is not run.
    assert inference['mmsmt']['flops'] == inference['plain']['flops']
    args.task = 'training'
    training = passes.count_cost(args, 'mmsmt')
    again = passes.count_cost(args, 'mmsmt with_cp')
    assert training['flops'] == 3 * inference['mmsmt']['flops']
    assert again['flops'] == training['flops']
    assert again['bytes'] < 0.5 * training['bytes']
    assert inference['mmsmt']['bytes'] < training['bytes']


def result(row: str, size: tuple[int, int], factor: float = 1) -> dict:
    seconds = factor * size[0] * size[1] / 1e6
    return dict(
        row=row, task='training', dtype='fp32', batch=2, size=size,
        seconds=seconds, seconds_range=[seconds, seconds],
        memory=factor * 2**20, memory_range=[2**20, 2**21],
        images_per_second=2 / seconds, floor=seconds / 4,
    )  # fmt: skip


def test_table_and_plot(tmp_path):
    failed = dict(result('plain', (512, 512)), failed='out of memory')
    failed = {
        k: v for k, v in failed.items() if not k.startswith(('se', 'me'))
    }
    small = [result('mmsmt', (64, 64), 0.25), result('plain', (64, 64))]
    text = output.format_table(small)
    mmsmt = next(line for line in text.splitlines() if 'mmsmt' in line)
    assert mmsmt.split()[-3:] == ['0.25', '0.25', '4.0']
    other = result('onnxruntime', (64, 64), 0.5)
    text = output.format_table([*small, other])
    mmsmt = next(line for line in text.splitlines() if 'mmsmt' in line)
    assert mmsmt.split()[-2:] == ['4.0', '0.50']
    large = [result('mmsmt', (512, 512), 0.25), failed]
    assert 'plain           out of memory' in output.format_table(large)
    machine = dict(name='a CPU', date='today', versions=dict(torch='2'))
    output.draw_plot([*small, *large], machine, tmp_path / 'growth.png')
    assert (tmp_path / 'growth.png').stat().st_size > 10_000


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--sizes', '800'], "'800' is not HxW, like 800x1344"),
        (['--sizes', '16x64'], 'below 32x32'),
        (['--rows', 'swin'], 'invalid choice'),
        (['--rows', 'release'], 'needs --release PATH'),
        (['--release', 'nowhere'], 'has no models/smt.py'),
        (['--batch', '0'], 'at least 1'),
        (['--json', 'nowhere/x.json'], 'there is no folder'),
        (['--json', 'README.md'], 'exists already'),
        (['--plot', 'x.png'], 'several --sizes'),
        (['--plot', 'x.txt', '--sizes', '64x64', '96x96'], '.png or .pdf'),
        (['--rows', 'mmsmt with_cp'], 'with_cp is for training'),
    ],
)
def test_wrong_options(tool, options, words):
    status, text = tool('benchmark.py', *options)
    assert status == 2
    assert words in text


CHILDREN_ARE_FORKS = """
import runpy, sys
_, sys.executable, *sys.argv = sys.argv
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.slow
@pytest.mark.one_stack
def test_a_whole_run(new_python, fork, root, tmp_path):
    """Processes, turns, floors and files; what it starts is forked."""
    path = tmp_path / 'figures.json'
    output = new_python(
        *('-c', CHILDREN_ARE_FORKS, fork, root / 'tools/benchmark.py'),
        *('--arch', 'tiny', '--device', 'cpu'),
        *('--rows', 'mmsmt', 'plain', '--tasks', 'inference'),
        *('--sizes', '512x512', '--repeats', '1', '--threads', '1'),
        *('--json', path),
    ).stdout
    figures = json.loads(path.read_text())
    assert figures['machine']['flops']['fp32'] > 1e9
    ours, plain = figures['results']
    assert (ours['row'], plain['row']) == ('mmsmt', 'plain')
    for row in (ours, plain):
        assert row['memory'] > 2**20
        assert row['seconds'] > 0 and row['floor'] > 0
    # What memory takes is no clock: it may be asserted.
    assert ours['memory'] < 0.8 * plain['memory']
    assert 'inference, fp32, 1 x 3 x 512 x 512' in output
