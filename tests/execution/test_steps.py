"""Bands of rows and recomputation, by structure: no clock here."""

import copy
from contextlib import nullcontext

import pytest
import torch
from support import golden
from support.compare import close, kept_bytes, loss_of
from support.plain_smt import PlainSMT
from support.small import make
from torch.utils._python_dispatch import TorchDispatchMode

from mmsmt import SMT
from mmsmt.execution import steps
from mmsmt.execution.contracts import disabled
from mmsmt.layers import recompute
from mmsmt.models.embedding import Stem
from mmsmt.models.smt import SMTBlock


@pytest.fixture(scope='module')
def model() -> SMT:
    return make()


def limit(monkeypatch, kilobytes: int = 1) -> None:
    """Compute stem and blocks in bands of this size."""
    monkeypatch.setattr(steps, 'BAND_BYTES', kilobytes * 1024)
    monkeypatch.setattr(Stem, 'band_bytes', kilobytes * 1024)


@pytest.mark.parametrize('shape', [(1, 3, 101, 67), (5, 3, 64, 96)])
@pytest.mark.parametrize('kilobytes', [1, 40, 150])
def test_bands_change_nothing(model, monkeypatch, shape, kilobytes):
    """Bands of one row, of some, of several images; folded batch norms."""
    model = copy.deepcopy(model).double()
    images = torch.randn(shape).double()
    references = [out.detach() for out in model(images)]  # autograd: whole
    bands, parts = [], []
    mix, embed = SMTBlock._mix, Stem._embed
    monkeypatch.setattr(
        SMTBlock,
        '_mix',
        lambda self, x: bands.append(x.shape) or mix(self, x),
    )
    monkeypatch.setattr(
        Stem, '_embed', lambda self, x: parts.append(x) or embed(self, x)
    )
    limit(monkeypatch, kilobytes)
    with torch.no_grad():
        outs = model(images)
    assert close(outs, references, 1e-12)
    assert len(bands) > 5
    assert len(parts) > 1


@pytest.mark.parametrize('kernel_size', [3, 7])
@pytest.mark.parametrize('height', [96, 97, 98, 99])
def test_stem_in_bands(monkeypatch, kernel_size, height):
    """Heights of each remainder by its stride, padding of 1 and 3 rows."""
    stem = Stem(3, 8, kernel_size, dict(type='BN'), with_cp=False).eval()
    images = torch.randn(2, 3, height, 40)
    with torch.no_grad():
        reference = stem(images)
        for kilobytes in (1, 8):
            limit(monkeypatch, kilobytes)
            assert torch.equal(stem(images), reference)


@pytest.mark.parametrize('name', ['tiny', 'large-22k'])
def test_golden_in_bands(monkeypatch, name):
    """The second has LayerScale."""
    limit(monkeypatch, 200)
    case = golden.case(name)
    model = SMT(**golden.arch_args(name)).eval()
    model.load_state_dict(case['weights'])
    with torch.no_grad():
        outs = model(torch.from_numpy(case['input']))
    stages = [torch.as_tensor(case[f'stage{i}']) for i in range(1, 5)]
    assert close(outs, stages)


@pytest.mark.parametrize('norm', ['BN', 'GN'])
def test_no_bands_where_statistics_need_the_whole_map(monkeypatch, norm):
    """A batch norm that trains under no_grad; norms of each image."""
    limit(monkeypatch)
    norm_cfg = (
        dict(type='BN') if norm == 'BN' else dict(type=norm, num_groups=4)
    )
    models = [make(norm_cfg=norm_cfg).double() for _ in range(2)]
    for model in models:
        model.train(norm == 'BN')
    images = torch.randn(2, 3, 64, 96).double()
    references = [out.detach() for out in models[0](images)]
    with torch.no_grad():
        assert close(models[1](images), references, 1e-12)
    for ours, theirs in zip(models[1].buffers(), models[0].buffers()):
        assert torch.equal(ours, theirs)


def dilate(model):
    for module in model.modules():
        deep = isinstance(module, torch.nn.Conv2d) and module.groups > 4
        if deep and module.kernel_size[0] > 1 and module.stride == (1, 1):
            module.dilation = (2, 2)
            module.padding = tuple(2 * p for p in module.padding)


def widen(model):
    mlp = model.block1[0].mlp
    channels = mlp.dwconv.in_channels
    mlp.dwconv = torch.nn.Conv2d(
        channels, channels, 7, padding=3, groups=channels
    ).double()


def normalize_maps(model):
    for block in model.block1:
        channels = block.norm2.normalized_shape[0]
        block.norm2 = torch.nn.GroupNorm(1, channels).double()


def dilate_the_stem(model):
    conv = model.patch_embed1.conv1
    conv.dilation = (2, 2)
    conv.padding = tuple(2 * p for p in conv.padding)


def exchange_the_stem(model):
    conv = model.patch_embed1.conv1
    model.patch_embed1.conv1 = torch.nn.Conv2d(
        3, conv.out_channels, 5, stride=2, padding='valid'
    ).double()


def exchange_modules(model):
    block = model.block1[0]
    block.mlp = torch.nn.Sequential(block.mlp, torch.nn.Identity())
    block.attn.saa = _Sum()


class _Sum(torch.nn.Module):
    def forward(self, *heads):
        return torch.cat(heads, 1)


@pytest.mark.parametrize(
    'change',
    [
        dilate,
        widen,
        normalize_maps,
        dilate_the_stem,
        exchange_the_stem,
        exchange_modules,
    ],
    ids=lambda change: change.__name__,
)
def test_changed_modules(monkeypatch, change):
    """Bands are as wide as convolutions reach, or are not used."""
    limit(monkeypatch)
    model = make().double()
    change(model)
    images = torch.randn(1, 3, 96, 64).double()
    with torch.no_grad():
        outs = model(images)
        with disabled():
            assert close(outs, model(images), 1e-12)


def test_mixer_of_the_users_own(monkeypatch):
    """Call it whole, whatever else its attributes mean."""

    class Mixer(torch.nn.Conv2d):
        halo = 1  # and a convolution's stride

    limit(monkeypatch)
    model = make()
    width = model.embed_dims[0]
    model.block1[0].attn = Mixer(width, width, 3, padding=1)
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        outs = model(images)
        with disabled():
            assert close(outs, model(images))


def test_stochastic_depth_at_inference(monkeypatch):
    """Draw once for each map, as without bands."""
    limit(monkeypatch)
    model = make(drop_path_rate=0.5).double()
    for block in model.block1:
        block.drop_path.train()
    images = torch.randn(2, 3, 96, 64).double()
    outs = []
    for context in (nullcontext(), disabled()):
        torch.manual_seed(0)
        with torch.no_grad(), context:
            outs.append(model(images))
    assert close(*outs, 1e-12)


def test_no_bands_where_drop_path_is_per_image(monkeypatch):
    limit(monkeypatch)
    model = make(drop_path_rate=0.5, norm_eval=True).double().train()
    images = torch.randn(4, 3, 64, 64).double()
    torch.manual_seed(0)
    references = [out.detach() for out in model(images)]
    torch.manual_seed(0)
    with torch.no_grad():
        assert close(model(images), references, 1e-12)


def test_hooks_see_whole_maps(monkeypatch):
    """As they would in training: no bands, no folding where someone looks."""
    limit(monkeypatch)
    model = make()
    seen = []
    for module in (model.patch_embed1.bn, *model.modules()):
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.Linear)):
            module.register_forward_hook(
                lambda module, inputs, out: seen.append(module)
            )
    images = torch.randn(1, 3, 64, 96)
    model(images)
    expected = seen.copy()
    seen.clear()
    with torch.no_grad():
        model(images)
    assert seen == expected


def test_whatever_stands_in_for_a_layer():
    """Adapters and norms of other kinds are called, hooks on parts run."""

    class Adapter(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer, self.weight = layer, layer.weight
            self.bias = layer.bias

        def forward(self, x):
            return self.layer(x) + 1

    class Norm(torch.nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) + 1

    images = torch.randn(1, 3, 64, 64)
    model, other = make(), make()
    mixers = [model.block1[0].attn, model.block4[0].attn]
    mixers[0].s.register_forward_hook(lambda module, x, out: out + 1)
    mixers[1].kv = Adapter(mixers[1].kv)
    other.block1[0].attn.s.bias.data += 1
    other.block4[0].attn.kv.bias.data += 1
    norm = model.patch_embed1.bn
    model.patch_embed1.bn = Norm(len(norm.weight)).eval()
    model.patch_embed1.bn.load_state_dict(norm.state_dict())
    other.patch_embed1.bn.bias.data += 1
    with torch.no_grad():
        assert close(model(images), other(images), 1e-3)
    assert close(model(images), other(images), 1e-3)


def test_with_cp_goes_back_twice():
    model = make(with_cp=True).train()
    loss = loss_of(model(torch.randn(2, 3, 64, 64)))
    loss.backward(retain_graph=True)
    first = [p.grad.clone() for p in model.parameters()]
    before = [buffer.clone() for buffer in model.buffers()]
    loss.backward()
    for param, grad in zip(model.parameters(), first):
        assert torch.allclose(param.grad, 2 * grad, rtol=1e-3, atol=1e-6)
    assert all(map(torch.equal, model.buffers(), before))


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('passes', ['forward', 'backward'])
def test_with_cp_in_bf16_under_a_mode(passes, monkeypatch):
    """Compare with gradients without the mode, which covers one pass only."""
    monkeypatch.setattr(recompute, 'LARGE', 0)
    grads = []
    for mode in (nullcontext, Mode):
        model = make(with_cp=True).train()
        images = torch.randn(2, 3, 64, 64, generator=torch.manual_seed(1))
        forward = mode() if passes == 'forward' else nullcontext()
        with forward, torch.autocast('cpu', torch.bfloat16):
            outs = model(images)
        loss = sum(out.float().square().mean() for out in outs)
        with mode() if passes == 'backward' else nullcontext():
            loss.backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(map(torch.equal, *grads))


@pytest.mark.slow
def test_a_training_step_keeps_less_than_the_plain_form():
    """Tiny at 512 x 512: no N x N map; with checkpoints blocks' inputs."""
    images = torch.randn(1, 3, 512, 512)

    def kept(model) -> int:
        model.train()
        return kept_bytes(lambda: model(images), model.parameters())

    plain = kept(PlainSMT())
    ours = kept(SMT('tiny'))
    assert ours < 0.83 * plain
    checkpointed = kept(SMT('tiny', with_cp=True))
    assert checkpointed < 0.15 * plain
