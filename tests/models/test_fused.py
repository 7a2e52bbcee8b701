"""Compare blocks at inference on a CPU with calls of their modules."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.utils import fuse_conv_bn
from support.compare import close, operators
from support.small import make
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from mmsmt.execution import disabled
from mmsmt.layers import onednn
from mmsmt.layers.maps import interleave
from mmsmt.models import fused
from mmsmt.models.branches import MultiHeadSelfAttention
from mmsmt.models.smt import SMTBlock


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape).to(memory_format=torch.channels_last)


def block_of(name: str, **options: object) -> SMTBlock:
    """Return a block whose norms change what they are given."""
    block = make(**options).get_submodule(name)
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean)
        elif isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
    block.embed_dims = block.norm1.normalized_shape[0]
    return block


def halves(block: SMTBlock, dtype: torch.dtype = torch.float32) -> str:
    """Name the halves of a block that are computed from its weights."""
    x = image(1, block.embed_dims, 9, 8).to(dtype)
    mixes = 'mix ' if fused.may_mix(block, x) else ''
    return mixes + ('ffn' if fused.may_feed_forward(block, x) else '')


@pytest.mark.parametrize('many', [1, 10**6])
@pytest.mark.parametrize('at_once', [True, False])
@pytest.mark.parametrize('options', [{}, dict(layer_scale_init_value=0.5)])
@pytest.mark.parametrize('name', ['block1.0', 'block3.1'])
def test_blocks(name, options, at_once, many, monkeypatch):
    """Compute both kinds of blocks, and leave their input alone."""
    monkeypatch.setattr(onednn, 'MANY', many)
    monkeypatch.setattr(fused, 'MAX_TOKENS', 1000 if at_once else 0)
    block = block_of(name, **options)
    dims = block.embed_dims
    for x in (image(2, dims, 9, 8), torch.randn(2, dims, 9, 8)):
        before = x.clone()
        with torch.no_grad():
            assert halves(block) == 'mix ffn'
            out = block(x)
            with disabled():
                assert halves(block) == ''
                assert close([out], [block(x)])
        assert torch.equal(x, before)


def test_layers_without_biases():
    for name in ('block1.0', 'block3.1'):
        block = block_of(name)
        for module in block.modules():
            if isinstance(module, nn.Linear):
                module.bias = None
        if name == 'block3.1':
            block.attn.local_conv.bias = block.mlp.dwconv.bias = None
        x = image(1, block.embed_dims, 9, 8)
        before = x.clone()
        with torch.no_grad():
            assert halves(block) == 'mix ffn'
            out = block(x)
            assert torch.equal(x, before)
            with disabled():
                assert close([out], [block(x)])


def test_norms_that_are_folded_already():
    """By ``fuse_conv_bn`` of mmcv, which leaves an identity."""
    block = block_of('block1.0')
    x = image(1, block.embed_dims, 9, 8)
    with torch.no_grad():
        expected = block(x)
        fuse_conv_bn(block)
        assert type(block.attn.saa.bn) is nn.Identity
        assert halves(block) == 'mix ffn'
        assert close([block(x)], [expected])


def test_activations():
    """Compute those that oneDNN has, and others."""
    for act in (nn.GELU('tanh'), nn.ReLU(), nn.SiLU()):
        block = block_of('block1.0')
        block.mlp.act = block.attn.saa.act = act
        x = image(1, block.embed_dims, 9, 8)
        with torch.no_grad():
            assert halves(block) == 'mix ffn'
            out = block(x)
            with disabled():
                assert close([out], [block(x)])


def test_when_modules_are_called():
    """With gradients, in other types, without oneDNN, and with hooks."""
    for block in (block_of('block1.0'), block_of('block3.1')):
        assert halves(block) == ''
        with torch.no_grad():
            assert halves(block) == 'mix ffn'
            assert halves(block, torch.float64) == ''
            with torch.autocast('cpu', torch.bfloat16):
                assert halves(block) == ''
            with torch.backends.mkldnn.flags(enabled=False):
                assert halves(block) == ''
            for name, module in block.named_modules():
                if not name or isinstance(module, nn.ModuleList):
                    continue
                part = name.split('.')[0]
                left = dict(norm1='ffn', attn='ffn', drop_path='')
                handle = module.register_forward_hook(lambda *args: None)
                assert halves(block) == left.get(part, 'mix '), name
                handle.remove()
                assert halves(block) == 'mix ffn', name


@pytest.mark.parametrize(
    ('name', 'value', 'left'),
    [
        ('norm1', nn.GroupNorm(2, 32), 'ffn'),
        ('norm2', nn.GroupNorm(2, 32), 'mix '),
        ('attn', nn.Identity(), 'ffn'),
        ('attn.saa', nn.Identity(), 'ffn'),
        ('attn.saa.bn.training', True, 'ffn'),
        ('attn.saa.inter.groups', 2, 'ffn'),
        ('attn.saa.intra.stride', (2, 2), 'ffn'),
        ('attn.mhmc', nn.Identity(), 'ffn'),
        ('attn.mhmc.convs', nn.ModuleList(), 'ffn'),
        ('attn.mhmc.convs.1.padding', 'same', 'ffn'),
        ('attn.mhmc.convs.0.bias', None, 'ffn'),
        ('attn.v', nn.Identity(), 'ffn'),
        ('attn.s', nn.Linear(32, 8), 'ffn'),
        ('mlp', nn.Identity(), 'mix '),
        ('mlp.fc1', nn.Linear(32, 8).half(), 'mix '),
        ('mlp.dwconv.dilation', (2, 2), 'mix '),
        ('mlp.dwconv.padding_mode', 'reflect', 'mix '),
        ('drop_path', nn.Dropout().eval(), ''),
        ('drop_path', DropPath().train(), ''),
        ('drop_path', DropPath().eval(), 'mix ffn'),
    ],
)
def test_what_is_not_known_is_called(name, value, left):
    block = block_of('block1.0')
    parent, _, last = name.rpartition('.')
    setattr(block.get_submodule(parent), last, value)
    with torch.no_grad():
        assert halves(block) == left


def test_attention_that_is_replaced(monkeypatch):
    """For one block, and for the class."""
    block = block_of('block3.1')
    with torch.no_grad():
        for name in ('local_conv', 'kv', 'proj'):
            before = getattr(block.attn, name)
            setattr(block.attn, name, nn.Identity())
            assert halves(block) == 'ffn', name
            setattr(block.attn, name, before)
        assert halves(block) == 'mix ffn'
        monkeypatch.setattr(MultiHeadSelfAttention, 'forward', lambda s, x: x)
        assert halves(block) == ''


def test_code_between_modules():
    """Obey a module that turns gradients on."""

    class Tuned(nn.Module):
        def __init__(self, block: SMTBlock) -> None:
            super().__init__()
            self.block = block

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.enable_grad():
                self.out = self.block(x)
            return self.out

    model = make()
    tuned = model.block4[-1] = Tuned(model.block4[-1])
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
    tuned.out.square().sum().backward()
    assert tuned.block.mlp.fc1.weight.grad.abs().sum() > 0


def test_one_watched_module_among_many():
    """Call the modules of its block alone."""
    model, x, seen = make(), torch.randn(1, 3, 64, 64), []
    other = model.block1[0].mlp.fc2
    with torch.no_grad():
        expected = model(x)
        model.block2[0].mlp.fc1.register_forward_hook(
            lambda *args: seen.append('watched')
        )
        other.forward = lambda x: (
            seen.append('replaced') or F.linear(x, other.weight, other.bias)
        )
        assert close(model(x), expected)
        assert seen == ['replaced', 'watched']
        names = operators(lambda: model(x))
    assert ('mkldnn::_convolution_pointwise' in names) == onednn.HAS_FUSED


def test_transforms_see_stock_operators():
    """Derive forward and count operations without gradients."""
    # PyTorch's fused attention, from stage 3 on, has no derivatives forward.
    model, x = make(out_indices=(0, 1)), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, tangents = torch.func.jvp(model, (x,), (torch.ones_like(x),))
        with forward_ad.dual_level():
            outs = model(forward_ad.make_dual(x, torch.ones_like(x)))
            duals = [forward_ad.unpack_dual(out).tangent for out in outs]
        counted = []
        for switch in (nullcontext, disabled):
            with switch(), FlopCounterMode(display=False) as counter:
                model(x)
            counted.append(counter.get_total_flops())
    assert all(tangent.abs().max() > 0 for tangent in tangents)
    assert close(duals, tangents)
    assert counted[0] == counted[1] > 0


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('heads', [1, 2, 4])
def test_heads_at_once(heads, bias):
    layer = nn.Linear(24, 8 * heads, bias=bias)
    convs = [
        nn.Conv2d(8, 8, 3 + 2 * i, padding=1 + i, groups=8)
        for i in range(heads)
    ]
    x = torch.randn(2, 9, 11, 24)
    with torch.no_grad():
        parts = layer(x).permute(0, 3, 1, 2).chunk(heads, 1)
        expected = interleave([conv(part) for conv, part in zip(convs, parts)])
        out = fused.mix_heads(layer, convs, x)
    assert close([out.permute(0, 3, 1, 2)], [expected])


def test_replaced_parts_are_called():
    """Call parts of other types, with and without gradients."""
    model, x = make(), torch.randn(1, 3, 64, 64)
    expected = model(x)
    sam = model.block1[0].attn
    sam.saa.inter = nn.Sequential(sam.saa.inter)
    convs = sam.mhmc

    class Mixer(nn.Module):
        def forward(self, *heads: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return convs(*heads)

    sam.mhmc = Mixer()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            assert close(model(x), expected, 1e-4)


def test_fake_tensors_do_not_stay():
    model, x = make(out_indices=(0,)), torch.randn(1, 3, 64, 64)
    fused._identity.cache_clear()
    with torch.no_grad():
        make_fx(
            lambda x: model(x)[0],
            tracing_mode='fake',
            _allow_non_fake_inputs=True,
        )(x)
        (out,) = make(out_indices=(0,))(x)
    assert type(out) is torch.Tensor


def test_models_side_by_side():
    """Map a model over the weights of several by ``vmap``."""
    models = [make(out_indices=(0, 1)) for _ in range(2)]
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        models[1].norm1.weight.mul_(2)
        weights = torch.func.stack_module_state(models)
        outs = torch.func.vmap(
            lambda *state: torch.func.functional_call(models[0], state, x)[0]
        )(*weights)
        assert close(outs, [model(x)[0] for model in models], 1e-4)
