"""Compare blocks at inference on a CPU with calls of their modules."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
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
    return block


@pytest.mark.parametrize('many', [1, 10**6])
@pytest.mark.parametrize('at_once', [True, False])
@pytest.mark.parametrize('options', [{}, dict(layer_scale_init_value=0.5)])
@pytest.mark.parametrize('name', ['block1.0', 'block3.1'])
def test_blocks(name, options, at_once, many, monkeypatch):
    """Compute both kinds of blocks, and leave their input alone."""
    monkeypatch.setattr(onednn, 'MANY', many)
    monkeypatch.setattr(fused, 'MAX_TOKENS', 1000 if at_once else 0)
    block = block_of(name, **options)
    dims = block.norm1.normalized_shape[0]
    for x in (image(2, dims, 9, 8), torch.randn(2, dims, 9, 8)):
        before = x.clone()
        with torch.no_grad():
            assert fused.may_compute(block, x)
            out = block(x)
            with disabled():
                assert not fused.may_compute(block, x)
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
        x = image(1, block.norm1.normalized_shape[0], 9, 8)
        before = x.clone()
        with torch.no_grad():
            assert fused.may_compute(block, x)
            out = block(x)
            assert torch.equal(x, before)
            with disabled():
                assert close([out], [block(x)])


def test_norms_that_are_folded_already():
    """By ``fuse_conv_bn`` of mmcv, which leaves an identity."""
    block = block_of('block1.0')
    x = image(1, block.norm1.normalized_shape[0], 9, 8)
    with torch.no_grad():
        expected = block(x)
        fuse_conv_bn(block)
        assert type(block.attn.saa.bn) is nn.Identity
        assert fused.may_compute(block, x)
        assert close([block(x)], [expected])


def test_activations():
    """Compute those that oneDNN has, and others."""
    for act in (nn.GELU('tanh'), nn.ReLU(), nn.SiLU()):
        block = block_of('block1.0')
        block.mlp.act = block.attn.saa.act = act
        x = image(1, block.norm1.normalized_shape[0], 9, 8)
        with torch.no_grad():
            assert fused.may_compute(block, x)
            out = block(x)
            with disabled():
                assert close([out], [block(x)])


def test_which_blocks_are_computed():
    """Call modules for gradients, other types, and what is not stock."""
    sam, msa = block_of('block1.0'), block_of('block3.1')
    dims = {b: b.norm1.normalized_shape[0] for b in (sam, msa)}

    def computes(block: SMTBlock, dtype: torch.dtype = torch.float32) -> bool:
        x = image(1, dims[block], 9, 8).to(dtype)
        return fused.may_compute(block, x)

    for block in (sam, msa):
        assert not computes(block)
        with torch.no_grad():
            assert computes(block)
            assert not computes(block, torch.float64)
            with torch.autocast('cpu', torch.bfloat16):
                assert not computes(block)
            for name, module in block.named_modules():
                if isinstance(module, nn.ModuleList):
                    continue
                handle = module.register_forward_hook(lambda *args: None)
                assert not computes(block), name
                handle.remove()
                assert computes(block), name
    changes = [
        (sam.attn.saa.bn, 'training', True),
        (sam.attn.saa.inter, 'groups', 2),
        (sam.attn.saa.intra, 'stride', (2, 2)),
        (sam.attn.mhmc.convs[1], 'padding', 'same'),
        (sam.attn.mhmc.convs[0], 'bias', None),
        (sam.mlp.dwconv, 'dilation', (2, 2)),
        (sam.mlp.dwconv, 'padding_mode', 'reflect'),
        (sam, 'norm2', nn.GroupNorm(2, dims[sam])),
        (sam, 'attn', nn.Identity()),
        (sam.attn, 'saa', nn.Identity()),
        (sam.attn, 'mhmc', nn.Identity()),
        (sam.attn, 'v', nn.Identity()),
        (sam.mlp, 'fc1', nn.Linear(dims[sam], 8).half()),
        (sam, 'mlp', nn.Identity()),
        (sam, 'drop_path', nn.Dropout().train()),
        (msa.attn, 'local_conv', nn.Identity()),
        (msa.attn, 'kv', nn.Identity()),
    ]
    with torch.no_grad():
        for module, name, value in changes:
            before = getattr(module, name)
            setattr(module, name, value)
            assert not (computes(sam) and computes(msa)), name
            setattr(module, name, before)
            assert computes(sam) and computes(msa), name


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
