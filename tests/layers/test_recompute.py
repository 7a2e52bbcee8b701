"""Check that GELU before a linear layer is recomputed instead of kept."""

from contextlib import nullcontext

import pytest
import torch
from support.compare import close, kept_bytes, operators
from support.small import make
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from mmsmt.execution import disabled
from mmsmt.layers import linear, recompute
from mmsmt.layers.recompute import linear_of_gelu as _linear_of_gelu

LAYERS = [
    lambda: nn.Linear(64, 48),
    lambda: nn.Linear(64, 48, bias=False),
    lambda: nn.Conv2d(64, 48, 1),
]


@pytest.fixture(autouse=True)
def small_maps_are_large(monkeypatch):
    monkeypatch.setattr(recompute, 'LARGE', 0)


def call_of(layer: nn.Module):
    """Call a layer on a map."""
    if isinstance(layer, nn.Linear):
        return lambda x: layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return layer


def linear_of_gelu(act: nn.Module, layer: nn.Module, x: torch.Tensor):
    return _linear_of_gelu(act, layer, x, call_of(layer))


def image(*shape: int, dtype=torch.float) -> torch.Tensor:
    x = torch.randn(shape, dtype=dtype)
    return x.to(memory_format=torch.channels_last).requires_grad_()


def reference(act: nn.Module, layer: nn.Module, x: torch.Tensor):
    return call_of(layer)(act(x))


def gradients(out: torch.Tensor, *inputs: torch.Tensor):
    return torch.autograd.grad((out * out.detach().cos()).sum(), inputs)


@pytest.mark.parametrize('mkl_is_slow', [False, True])
@pytest.mark.parametrize('make_layer', LAYERS)
@pytest.mark.parametrize('act', [nn.GELU(), nn.GELU('tanh')])
def test_gradients(monkeypatch, act, make_layer, mkl_is_slow):
    monkeypatch.setattr(linear, 'MKL_IS_SLOW', mkl_is_slow)
    layer, x = make_layer(), image(2, 64, 16, 16)
    inputs = [x, *layer.parameters()]
    out, expected = linear_of_gelu(act, layer, x), reference(act, layer, x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert close([out], [expected])
    found = gradients(out, *inputs)
    assert close(found, gradients(expected, *inputs))
    assert [g.shape for g in found] == [i.shape for i in inputs]
    for frozen in inputs:  # the others have theirs
        frozen.requires_grad_(False)
        rest = [one for one in inputs if one is not frozen]
        out = linear_of_gelu(act, layer, x)
        assert close(
            gradients(out, *rest), gradients(reference(act, layer, x), *rest)
        )
        frozen.requires_grad_()


@pytest.mark.parametrize('make_layer', LAYERS)
def test_second_derivatives(make_layer):
    layer, x = make_layer().double(), image(1, 64, 2, 3, dtype=torch.double)
    act, inputs = nn.GELU(), [x, *layer.parameters()]

    def second(compute):
        out = compute(act, layer, x)
        first = torch.autograd.grad(
            out.square().sum(), inputs, create_graph=True
        )
        return torch.autograd.grad(
            sum(g.square().sum() for g in first), inputs
        )

    assert close(second(linear_of_gelu), second(reference), 1e-12)


@pytest.mark.parametrize('mkl_is_slow', [False, True])
def test_many_gradients_and_writes_in_place(monkeypatch, mkl_is_slow):
    monkeypatch.setattr(linear, 'MKL_IS_SLOW', mkl_is_slow)
    act, layer, x = nn.GELU(), nn.Linear(64, 48), image(2, 64, 16, 16)
    inputs = [x, *layer.parameters()]
    out, expected = linear_of_gelu(act, layer, x), reference(act, layer, x)
    probes = torch.randn(3, *out.shape)
    options = dict(grad_outputs=probes, is_grads_batched=True)
    if not mkl_is_slow:  # PyTorch has no rule for a convolution's
        found = torch.autograd.grad(out, inputs, **options, retain_graph=True)
        assert close(found, torch.autograd.grad(expected, inputs, **options))
    out.mul_(2)  # as a hook may
    assert close(
        torch.autograd.grad(out.sum(), inputs),
        [
            2 * g
            for g in torch.autograd.grad(
                reference(act, layer, x).sum(), inputs
            )
        ],
    )


@pytest.mark.parametrize('make_layer', LAYERS)
def test_bf16(make_layer):
    """Be as near to fp32 as modules that are called."""
    act, layer, x = nn.GELU(), make_layer(), image(2, 64, 16, 16)
    inputs = [x, *layer.parameters()]
    exact = gradients(reference(act, layer, x), *inputs)
    with torch.autocast('cpu', torch.bfloat16):
        out = linear_of_gelu(act, layer, x.bfloat16())
        plain = reference(act, layer, x.bfloat16())
    assert out.dtype == plain.dtype == torch.bfloat16
    found = gradients(out, *inputs)
    for one, other, ref in zip(found, gradients(plain, *inputs), exact):
        assert one.dtype == ref.dtype
        assert (one - ref).norm() < 1.5 * (
            other - ref
        ).norm() + 1e-3 * ref.norm()


def test_what_is_kept(monkeypatch):
    """Keep one map of the two if it is large, also in a checkpoint."""
    act, layer, x = nn.GELU(), nn.Linear(64, 64), image(2, 64, 32, 32)

    def kept(compute=linear_of_gelu) -> int:
        return kept_bytes(lambda: compute(act, layer, x), layer.parameters())

    assert kept() <= x.nbytes
    assert kept(reference) >= 2 * x.nbytes
    monkeypatch.setattr(recompute, 'LARGE', x.nbytes + 1)
    assert kept() >= 2 * x.nbytes
    monkeypatch.setattr(recompute, 'LARGE', x.nbytes)
    assert kept() < 2 * x.nbytes
    expected = gradients(reference(act, layer, x), x)
    again = checkpoint(linear_of_gelu, act, layer, x, use_reentrant=False)
    assert close(gradients(again, x), expected)


def test_where_modules_are_called():
    """Call modules under hooks, and modules of other types."""
    layer, x = nn.Linear(64, 48), image(1, 64, 4, 4)
    with torch.no_grad():
        assert close(
            [linear_of_gelu(nn.GELU(), layer, x)],
            [reference(nn.GELU(), layer, x)],
        )
    act, calls = nn.GELU(), []
    for module in (act, layer):
        module.register_forward_hook(lambda m, args, out: calls.append(m))
    linear_of_gelu(act, layer, x)
    assert calls == [act, layer]
    for module in (act, layer):
        module._forward_hooks.clear()

    def called() -> bool:
        names = operators(lambda: linear_of_gelu(act, layer, x))
        return '_LinearOfGelu' not in names

    assert not called()
    with disabled():
        assert called()
    counts = []
    for context in (nullcontext, disabled):
        with context(), FlopCounterMode(display=False) as counter:
            linear_of_gelu(act, layer, x).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    for other in (nn.SiLU(), type('Own', (nn.GELU,), {})()):
        out = linear_of_gelu(other, layer, x)
        assert close([out], [reference(other, layer, x)])
    for other in (
        nn.Conv2d(64, 48, 3, padding=1),
        nn.Conv2d(64, 48, 1, groups=2),
        nn.Conv2d(64, 48, 1, stride=2),
        nn.Conv2d(64, 48, 1, padding=1),
        nn.Sequential(nn.Conv2d(64, 48, 1)),
    ):
        assert close([linear_of_gelu(act, other, x)], [other(act(x))])


def test_transforms():
    """Derive a model in training mode by ``torch.func``."""
    model, x = make(out_indices=(0, 1)).train(), torch.randn(2, 3, 32, 32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # a transform cannot write its statistics
    parameters = {k: v.detach() for k, v in model.named_parameters()}

    def loss(parameters, images):
        outs = torch.func.functional_call(model, parameters, (images,))
        return sum(out.square().mean() for out in outs)

    found = torch.func.grad(loss)(parameters, x)
    loss(dict(model.named_parameters()), x).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert close([found[name]], [parameter.grad]), name
    _, tangent = torch.func.jvp(
        lambda images: loss(parameters, images), (x,), (torch.ones_like(x),)
    )
    assert tangent.abs() > 0
