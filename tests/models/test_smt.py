"""The backbone against the golden cases, the plain oracle and its contract."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from mmcv.cnn.bricks import DropPath
from mmcv.ops import roi_align
from mmengine.registry import MODELS
from support import golden
from support.plain_smt import PlainSMT
from torch import nn
from torchvision.ops import roi_align as torchvision_roi_align

from mmsmt import SMT
from mmsmt.models.branches import MultiHeadSelfAttention
from mmsmt.models.smt import SMTBlock
from mmsmt.models.state_dict import our_name

SMALL_ARCH = dict(
    embed_dims=(32, 64, 128, 256),
    depths=(1, 1, 2, 1),
    mlp_ratios=(2, 2, 2, 2),
    stem_kernel_size=7,
)
GELU = dict(type='GELU')


def relative(value: torch.Tensor, reference) -> float:
    reference = torch.as_tensor(reference)
    difference = (value.detach() - reference).abs().max()
    return float(difference / reference.abs().max())


@pytest.fixture(scope='module')
def small_smt() -> SMT:
    """A small model for checks that change nothing in it."""
    torch.manual_seed(0)
    model = SMT(SMALL_ARCH)
    model.init_weights()
    return model.eval()


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')


@pytest.fixture(params=['cpu', pytest.param('cuda', marks=GPU)])
def device(request, monkeypatch):
    """Each device of this machine, without TensorFloat-32."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    return request.param


# Golden cases ----------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize('name', golden.NAMES)
def test_golden_stages(name, device):
    case = golden.case(name)
    model = SMT(**golden.arch_args(name)).eval().to(device)
    model.load_state_dict(case['weights'], strict=True)
    with torch.no_grad():
        outs = model(torch.from_numpy(case['input']).to(device))
    for i, out in enumerate(outs, 1):
        assert relative(out.cpu(), case[f'stage{i}']) <= 1e-5


@pytest.mark.smoke
def test_golden_training(device):
    case = golden.case('tiny')
    model = SMT('tiny').train().to(device)
    model.load_state_dict(case['weights'], strict=True)
    image = torch.from_numpy(case['input']).to(device).requires_grad_()
    loss = sum(out.square().mean() for out in model(image))
    loss.backward()
    assert loss.item() == pytest.approx(float(case['train_loss']), rel=1e-5)
    assert relative(image.grad.cpu(), case['input_grad']) <= 1e-4
    norms = {name: p.grad.norm() for name, p in model.named_parameters()}
    names = [our_name(name) for name in case['grad_names'].tolist()]
    assert sorted(names) == sorted(norms)
    # A bias before a norm has no gradient but rounding: nothing to compare.
    floor = 1e-5 * case['grad_norms'].max()
    for name, expected in zip(names, case['grad_norms']):
        assert abs(float(norms[name]) - expected) <= 1e-4 * expected + floor


@pytest.mark.parametrize('name', golden.NAMES)
def test_plain_oracle_is_golden(name):
    case = golden.case(name)
    plain = plain_like(name)
    plain.load_state_dict(case['weights'], strict=True)
    image = torch.from_numpy(case['input'])
    with torch.no_grad():
        outs, logits = plain(image), plain.classify(image)
    for i, out in enumerate(outs, 1):
        assert relative(out, case[f'stage{i}']) <= 1e-5
    assert relative(logits, case['logits']) <= 1e-5


def plain_like(name: str) -> PlainSMT:
    args = golden.arch_args(name)
    arch = SMT.ARCHS[args['arch']]
    return PlainSMT.of(arch, layer_scale=name == 'large-22k').eval()


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (64, 129), (95, 32)])
def test_agrees_with_plain_oracle_at_any_size(size):
    """Outputs and all gradients, batch statistics included."""
    weights = golden.weights('tiny')
    model, plain = SMT('tiny').train(), plain_like('tiny').train()
    model.load_state_dict(weights)
    plain.load_state_dict(weights)
    image = torch.randn(2, 3, *size, generator=torch.Generator())
    outs, expected = model(image), plain(image)
    for out, other in zip(outs, expected):
        assert relative(out, other.detach()) <= 1e-5
    for maps in (outs, expected):
        sum(x.square().mean() for x in maps).backward()
    wanted = {
        our_name(name): p.grad
        for name, p in plain.named_parameters()
        if not name.startswith('head.')
    }
    largest = max(grad.abs().max() for grad in wanted.values())
    for name, param in model.named_parameters():
        error = (param.grad - wanted[name]).abs().max()
        assert error <= 1e-4 * wanted[name].abs().max() + 1e-5 * largest, name
    stats = plain.state_dict()
    for name in stats:
        if 'running_' in name:
            mine = model.state_dict()[our_name(name)]
            assert relative(mine, stats[name]) <= 1e-5


# Size ------------------------------------------------------------------------

# Without the 1000-class head.
PARAMETERS = {
    'tiny': 10_993_536,
    'small': 22_037_952,
    'small-paper': 19_927_488,
    'base': 31_524_352,
    'large': 79_820_544,
}
# With it, in millions. Tables 1 and 14 print 20.5 and 80.5 for S and L.
PAPER = {'tiny': 11.5, 'small-paper': 20.4, 'base': 32.0, 'large': 80.6}


@pytest.mark.parametrize('arch', SMT.ARCHS)
def test_parameters(arch):
    with torch.device('meta'):
        model = SMT(arch)
    count = sum(p.numel() for p in model.parameters())
    assert count == PARAMETERS[arch]
    released = golden.shapes(arch)
    with_head = count + math.prod(released['head.weight']) + 1000
    if arch in PAPER:
        assert round(with_head / 1e6, 1) == PAPER[arch]
    names = {our_name(name): shape for name, shape in released.items()}
    state = {k: list(v.shape) for k, v in model.state_dict().items()}
    del names['head.weight'], names['head.bias']
    assert state == names


# Input and output ------------------------------------------------------------


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', [(32, 32), (37, 64), (101, 63)])
def test_shapes_and_layout(small_smt, batch, size):
    with torch.no_grad():
        outs = small_smt(torch.randn(batch, 3, *size))
    height, width = ((math.ceil(side / 2)) // 2 for side in size)
    for out, dims in zip(outs, SMALL_ARCH['embed_dims']):
        assert out.shape == (batch, dims, height, width)
        assert out.is_contiguous()
        height, width = math.ceil(height / 2), math.ceil(width / 2)


def test_outputs_suit_mmcv_roi_align():
    """It reads memory as NCHW whatever the strides say (mmcv 2.1 to 2.3)."""
    model = SMT(SMALL_ARCH, out_indices=(0,)).eval()
    rois = torch.tensor([[0, 8, 8, 60, 50], [1, 4, 20, 64, 64.0]])
    with torch.no_grad():
        (out,) = model(torch.randn(2, 3, 64, 64))
        pooled = roi_align(out, rois, 7, 0.25, 2, 'avg', True)
    expected = torchvision_roi_align(out, rois, 7, 0.25, 2, aligned=True)
    assert relative(pooled, expected) <= 1e-5


def test_memory_format_of_the_input_does_not_matter(small_smt):
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        first = small_smt(image)
        other = small_smt(image.contiguous(memory_format=torch.channels_last))
    for a, b in zip(first, other):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    'shape, words',
    [
        ((1, 3, 31, 64), '32 x 32'),
        ((1, 3, 64, 31), '32 x 32'),
        ((1, 4, 64, 64), r'\(B, 3, H, W\)'),
        ((3, 64, 64), r'\(B, 3, H, W\)'),
    ],
)
def test_wrong_input(small_smt, shape, words):
    with pytest.raises(ValueError, match=words):
        small_smt(torch.zeros(shape))


def test_in_channels():
    model = SMT(SMALL_ARCH, in_channels=5)
    assert model(torch.randn(1, 5, 32, 32))[0].shape == (1, 32, 8, 8)


# Arguments -------------------------------------------------------------------


@pytest.mark.parametrize(
    'args, error, words',
    [
        (dict(out_indices=(0, 4)), ValueError, '0 to 3'),
        (dict(out_indices=(1, 0)), ValueError, 'increasing'),
        (dict(out_indices=()), ValueError, '0 to 3'),
        (dict(frozen_stages=5), ValueError, 'from -1 to 4'),
        (dict(frozen_stages=2, out_indices=(0,)), ValueError, 'from -1 to 1'),
        (dict(drop_path_rate=1.0), ValueError, r'\[0, 1\)'),
        (dict(layer_scale_init_value=-1), ValueError, 'positive'),
        (dict(in_channels='3'), TypeError, 'an int'),
    ],
)
def test_wrong_arguments(args, error, words):
    with pytest.raises(error, match=words):
        SMT(SMALL_ARCH, **args)


def test_config_values_are_accepted():
    """Lists, as configs have after JSON or --cfg-options."""
    arch = json.loads(json.dumps(SMALL_ARCH))
    model = MODELS.build(dict(type='mmsmt.SMT', arch=arch, out_indices=[1, 3]))
    assert [tuple(o.shape) for o in model(torch.randn(1, 3, 32, 32))] == [
        (1, 64, 4, 4),
        (1, 256, 1, 1),
    ]


def test_other_heads_and_expansion():
    arch = dict(SMALL_ARCH, sam_heads=2, expand_ratio=3, msa_heads=(4, 8))
    model = SMT(arch)
    block = model.block3
    assert len(block[0].attn.mhmc.convs) == 2
    assert block[0].attn.saa.inter.in_channels == 3 * 128
    assert (block[1].attn.num_heads, model.block4[0].attn.num_heads) == (4, 8)
    sum(o.mean() for o in model(torch.randn(2, 3, 32, 32))).backward()


# Stochastic depth ------------------------------------------------------------


def test_drop_path_grows_linearly_over_all_blocks():
    model = SMT('tiny', drop_path_rate=0.24)
    rates = [
        getattr(block.drop_path, 'drop_prob', 0.0)
        for i in range(1, 5)
        for block in getattr(model, f'block{i}')
    ]
    assert rates == pytest.approx(np.linspace(0, 0.24, 13))
    truncated = SMT('tiny', drop_path_rate=0.24, out_indices=(0, 1))
    assert truncated.block2[-1].drop_path.drop_prob == pytest.approx(rates[3])


def test_drop_path_is_per_sample():
    torch.manual_seed(0)
    mixer = MultiHeadSelfAttention(32, 4)
    block = SMTBlock(mixer, 32, 2, 0.5, 0.0, GELU, with_cp=False)
    assert isinstance(block.drop_path, DropPath)
    nn.init.zeros_(block.mlp.fc2.weight)
    nn.init.zeros_(block.mlp.fc2.bias)
    x = torch.randn(64, 32, 4, 4)
    with torch.no_grad():
        branch = block.eval()(x) - x
        dropped = block.train()(x) - x
    scale = (dropped * branch).sum((1, 2, 3)) / branch.square().sum((1, 2, 3))
    kept = scale.round()
    assert (scale - kept).abs().max() < 1e-4
    assert set(kept.tolist()) == {0.0, 2.0}


# Training switches -----------------------------------------------------------


@pytest.mark.parametrize('stages', range(-1, 5))
def test_frozen_stages(stages):
    model = SMT(SMALL_ARCH, frozen_stages=stages, drop_path_rate=0.2)
    assert model.train() is model
    frozen = set()
    if stages >= 0:
        frozen.add('patch_embed1')
    for i in range(1, stages + 1):
        frozen |= {f'patch_embed{i}', f'block{i}', f'norm{i}'}
    for name, child in model.named_children():
        assert all(m.training != (name in frozen) for m in child.modules())
        for param in child.parameters():
            assert param.requires_grad != (name in frozen)
    before = copy.deepcopy(dict(model.named_buffers()))
    outs = model(torch.randn(2, 3, 32, 32))
    for name, buffer in model.named_buffers():
        moved = not torch.equal(buffer, before[name])
        assert moved != (name.split('.')[0] in frozen), name
    if stages < 4:
        sum(o.mean() for o in outs).backward()
        for name, param in model.named_parameters():
            has = param.grad is not None
            assert has != (name.split('.')[0] in frozen), name


def test_norm_eval():
    model = SMT(SMALL_ARCH, norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 4
    assert not any(norm.training for norm in norms)
    assert model.block1.training


@pytest.mark.parametrize('kind', ['LN', 'BN1d', 'IN3d'])
def test_norms_of_other_maps(kind):
    """As configs of Swin pass them; not in the first forward."""
    with pytest.raises(ValueError, match='not a norm of maps'):
        SMT('tiny', norm_cfg=dict(type=kind))


def test_norm_cfg():
    model = SMT(SMALL_ARCH, norm_cfg=dict(type='SyncBN', requires_grad=True))
    kinds = [m for m in model.modules() if 'Batch' in type(m).__name__]
    assert len(kinds) == 4
    assert all(isinstance(m, nn.SyncBatchNorm) for m in kinds)


@pytest.mark.parametrize(
    'settings, error, words',
    [
        (dict(norm_cfg=dict(type='GN')), ValueError, 'GN needs num_groups'),
        (
            dict(norm_cfg=dict(type='GN', num_groups=48)),
            ValueError,
            '64, 128, 256, 512 channels: num_channels',
        ),
        (dict(norm_cfg=dict(type='BN2')), ValueError, "no norm 'BN2'"),
        (dict(norm_cfg=None), TypeError, 'norm_cfg must be a dict'),
        (dict(drop_path_rate='0.1'), TypeError, 'drop_path_rate must be a nu'),
        (dict(layer_scale_init_value=None), TypeError, 'layer_scale_init_v'),
        (dict(out_indices=None), TypeError, 'out_indices must be a stage'),
        (dict(init_cfg='smt.pth'), TypeError, 'init_cfg must be a dict'),
        (dict(with_cp='False'), TypeError, 'with_cp must be True or False'),
        (dict(norm_eval=1), TypeError, 'norm_eval must be True or False'),
    ],
)
def test_wrong_settings_are_named(settings, error, words):
    with pytest.raises(error, match=words):
        SMT('tiny', **settings)


def test_groups_that_divide_all_channels():
    """Though no number of channels is as small as 32."""
    model = SMT('tiny', norm_cfg=dict(type='GN', num_groups=64))
    assert model.patch_embed1.bn.num_groups == 64


@pytest.mark.parametrize('last', range(4))
def test_stages_without_use_are_not_built(last):
    model = SMT(SMALL_ARCH, out_indices=(last,))
    names = {name for name, _ in model.named_children()}
    assert names == {
        f'{part}{i + 1}'
        for i in range(last + 1)
        for part in ('patch_embed', 'block', 'norm')
    }
    (out,) = model(torch.randn(1, 3, 64, 64))
    out.mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_with_cp_changes_nothing():
    """The same loss, gradients and running statistics."""
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = SMT(SMALL_ARCH, drop_path_rate=0.3, with_cp=with_cp).train()
        model.init_weights()
        image = torch.randn(4, 3, 48, 64, requires_grad=True)
        torch.manual_seed(1)
        loss = sum(out.square().mean() for out in model(image))
        loss.backward()
        grads = [p.grad for p in model.parameters()]
        results.append((loss, image.grad, *grads, *model.buffers()))
    for plain, recomputed in zip(*results):
        assert torch.equal(plain, recomputed)


def test_with_cp_behind_a_frozen_stem():
    model = SMT(SMALL_ARCH, frozen_stages=0, with_cp=True).train()
    sum(out.mean() for out in model(torch.randn(1, 3, 32, 32))).backward()
    assert model.block1[0].norm1.weight.grad is not None


def test_every_parameter_gets_a_finite_gradient():
    model = SMT('tiny', layer_scale_init_value=1e-4)
    model.init_weights()
    sum(
        out.square().mean() for out in model(torch.randn(2, 3, 64, 64))
    ).backward()
    for name, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), name
        assert param.grad.abs().max() > 0, name


CPU_HALF = tuple(int(v) for v in torch.__version__.split('.')[:2]) >= (2, 3)


@pytest.mark.parametrize(
    'dtype',
    [
        torch.bfloat16,
        pytest.param(
            torch.float16,
            marks=pytest.mark.skipif(
                not CPU_HALF, reason='this torch has no fp16 autocast on CPUs'
            ),
        ),
    ],
)
def test_autocast(dtype):
    model = SMT('tiny').train()
    model.load_state_dict(golden.weights('tiny'))
    image = torch.randn(2, 3, 64, 64)
    seen = []
    model.block3[1].attn.q.register_forward_hook(
        lambda module, args, out: seen.append(out.dtype)
    )
    with torch.autocast('cpu', dtype=dtype):
        outs = model(image)
        loss = sum(out.float().square().mean() for out in outs)
    loss.backward()
    assert seen == [dtype]
    assert all(out.isfinite().all() for out in outs)
    for name, param in model.named_parameters():
        assert param.grad.isfinite().all(), name


@pytest.mark.parametrize(
    'images', [np.zeros((1, 3, 64, 64)), torch.zeros(1, 3, 64, 64).byte()]
)
def test_input_of_another_type(small_smt, images):
    with pytest.raises(TypeError, match=r'floating-point tensor \(B, 3, H, W'):
        small_smt(images)
