"""Compare fused operators at inference with those that they replace."""

from contextlib import nullcontext

import pytest
import torch
from support.compare import close, operators
from support.small import make
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from mmsmt.execution import disabled
from mmsmt.layers import mixed, onednn
from mmsmt.layers.conv import conv_bn, conv_plus_input
from mmsmt.layers.maps import interleave

FUSED = 'mkldnn::_convolution_pointwise'
needs_fused = pytest.mark.skipif(
    not onednn.HAS_FUSED, reason='no or old oneDNN'
)


def depthwise(channels: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(
        channels, channels, size, padding=size // 2, groups=channels
    )


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape).to(memory_format=torch.channels_last)


@needs_fused
@pytest.mark.parametrize(
    ('act', 'fused'),
    [
        (nn.GELU(), True),
        (nn.GELU('tanh'), True),
        (nn.ReLU(), True),
        (nn.SiLU(), False),
        (type('Own', (nn.GELU,), {})(), False),
    ],
)
def test_activations(act, fused):
    """Fuse one with a depth-wise convolution, and with a folded norm."""
    conv, x = depthwise(32), image(2, 32, 9, 8)
    bn = nn.BatchNorm2d(32)
    bn(3 * image(8, 32, 9, 8) + 1)
    bn.eval()
    with torch.no_grad():
        outs = [conv_plus_input(conv, x, act), conv_bn(conv, bn, x, act)]
        assert close(outs, [act(conv(x) + x), act(bn(conv(x)))])
        names = operators(lambda: conv_plus_input(conv, x, act))
    assert (FUSED in names) == fused


@needs_fused
def test_where_nothing_is_fused():
    """Call them under autocast, with gradients and hooks, and for others."""
    act, x = nn.GELU(), image(2, 32, 9, 8)

    def names(conv: nn.Module, x: torch.Tensor = x) -> set[str]:
        return set(operators(lambda: conv_plus_input(conv, x, act)))

    plain = depthwise(32)
    assert FUSED not in names(plain)
    with torch.no_grad():
        assert FUSED in names(plain)
        with torch.autocast('cpu', torch.bfloat16):
            assert FUSED not in names(plain)
        with disabled():
            assert FUSED not in names(plain)
        assert FUSED not in names(plain.double(), x.double())
        hooked = depthwise(32)
        hooked.register_forward_hook(lambda module, x, out: out + 1)
        assert close([conv_plus_input(hooked, x, act)], [act(hooked(x) + x)])
        for options in (
            dict(padding=1, padding_mode='reflect'),
            dict(padding='same'),
        ):
            other = nn.Conv2d(32, 32, 3, groups=32, **options)
            assert FUSED not in names(other)
            assert close([conv_plus_input(other, x, act)], [act(other(x) + x)])


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
    convs = [depthwise(8, 3 + 2 * i) for i in range(heads)]
    x = image(2, 24, 9, 11)
    with torch.no_grad():
        assert mixed.are_mixed_at_once(layer, convs, x)
        parts = (
            layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).chunk(heads, 1)
        )
        expected = interleave([conv(part) for conv, part in zip(convs, parts)])
        assert close([mixed.mix_heads(layer, convs, x)], [expected])


def test_where_heads_are_not_mixed_at_once(monkeypatch):
    model, images = make(), torch.randn(1, 3, 64, 64)
    sam = model.block1[0].attn
    calls = []
    for name, module in sam.named_modules():
        if not isinstance(module, nn.ModuleList):
            module.register_forward_pre_hook(
                lambda module, args, name=name: calls.append(name)
            )
            with torch.no_grad():
                model(images)
            assert name in calls, name
            module._forward_pre_hooks.clear()
    monkeypatch.setattr(mixed, 'MAX_TOKENS', 16 * 16 - 1)
    x = image(1, 32, 16, 16)
    with torch.no_grad():
        assert not mixed.are_mixed_at_once(sam.s, sam.mhmc.convs, x)
        monkeypatch.setattr(mixed, 'MAX_TOKENS', 16 * 16)
        assert mixed.are_mixed_at_once(sam.s, sam.mhmc.convs, x)
        convs = [*sam.mhmc.convs[:-1], nn.Identity()]
        assert not mixed.are_mixed_at_once(sam.s, convs, x)
    assert not mixed.are_mixed_at_once(sam.s, sam.mhmc.convs, x)  # gradients


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


SIZES_AT_RANDOM = """
import random, torch
from torch import nn
from torch.nn import functional as F
from mmsmt.layers.conv import conv_plus_input
torch.set_num_threads(1)
draw = random.Random(0)
with torch.no_grad():
    for _ in range(2000):
        size, act = draw.randint(8, 13), draw.choice([nn.GELU(), nn.ReLU()])
        conv = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        x = torch.randn(1, 32, size, size)
        x = x.to(memory_format=torch.channels_last)
        out = conv_plus_input(conv, x, act)
        args = x.double(), conv.weight.double(), conv.bias.double()
        expected = act(x + F.conv2d(*args, padding=1, groups=32))
        error = (out - expected).abs().max()
        assert error < 1e-5, (size, act, error)
"""


def test_more_sizes_than_are_cached(new_python):
    """Compute maps of many sizes in one process.

    By default oneDNN caches 1024 kernels, here 4. Before 3.4 it forgets the
    activation that a kernel made again needs.
    """
    new_python(
        *('-c', SIZES_AT_RANDOM),
        ONEDNN_PRIMITIVE_CACHE_CAPACITY='4',
        MALLOC_PERTURB_='165',  # overwrite what is freed
    )


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
