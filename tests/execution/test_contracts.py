"""Tools see a stock PyTorch module, whatever computes it."""

import copy
import io
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from support.small import ARCH, make
from torch import nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

from mmsmt import SMT
from mmsmt.execution import contracts, disabled, steps
from mmsmt.models.smt import SMTBlock


@pytest.fixture(autouse=True)
def small_bands(monkeypatch):
    """Every map is computed in bands, where it may be."""
    monkeypatch.setattr(steps, 'BAND_BYTES', 1024)


def images(size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, size, size, generator=generator)


def assert_near(outs, references, tolerance: float = 1e-5) -> None:
    for out, ref in zip(outs, references, strict=True):
        assert (out - ref).abs().max() <= tolerance * ref.abs().max()


def size_of(model: nn.Module) -> int:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return file.tell()


# One switch ------------------------------------------------------------------


@pytest.mark.parametrize('grad', [False, True])
def test_disabled_calls_every_module(monkeypatch, grad):
    """And computes the same."""
    model, calls = make(), []
    call = nn.Module.__call__
    monkeypatch.setattr(
        nn.Module,
        '__call__',
        lambda self, *args: calls.append(self) or call(self, *args),
    )
    with torch.set_grad_enabled(grad):
        fast = model(images())
        with disabled():
            calls.clear()
            plain = model(images())
    assert_near(fast, plain)
    # Each once, so not in bands; drop_path in both halves of a block.
    expected = Counter(id(m) for m in leaves_and_layers(model).values())
    for i in range(1, 5):
        for block in getattr(model, f'block{i}'):
            expected[id(block.drop_path)] = 2
    assert Counter(map(id, calls)) == expected


# Hooks -----------------------------------------------------------------------


def leaves_and_layers(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: m
        for name, m in model.named_modules()
        if not isinstance(m, nn.ModuleList)
    }


@pytest.mark.parametrize('training', [False, True])
def test_outputs_that_hooks_keep_are_not_overwritten(training):
    """See whole maps of every module, with and without gradients."""
    model = make().train(training)
    kept = {}

    def keep(name):
        def hook(module, inputs, out):
            assert 'drop_path' in name or name not in kept  # called once
            for i, value in enumerate((*inputs, out)):
                if isinstance(value, torch.Tensor):
                    kept[name, i] = (value, value.detach().clone())
            kept[name] = None

        return hook

    modules = leaves_and_layers(model)
    for name, module in modules.items():
        module.register_forward_hook(keep(name))
    for grad in (False, True):
        kept.clear()
        with torch.set_grad_enabled(grad):
            model(images())
        assert kept.keys() >= modules.keys()
        for key, pair in kept.items():
            assert pair is None or torch.equal(*pair), key


def test_backward_hooks_of_every_module():
    model = make().train()
    reference = copy.deepcopy(model)
    seen = set()
    modules = leaves_and_layers(model)
    for name, module in modules.items():
        module.register_full_backward_hook(
            lambda module, grads, outs, name=name: seen.add(name)
        )
        module.register_full_backward_pre_hook(
            lambda module, outs, name=name: seen.add(f'{name} before')
        )
    for m in (model, reference):
        x = images().requires_grad_()
        sum(out.square().mean() for out in m(x)).backward()
    assert seen == {*modules, *(f'{name} before' for name in modules)}
    for ours, theirs in zip(model.parameters(), reference.parameters()):
        assert (ours.grad - theirs.grad).abs().max() <= 1e-6


@pytest.mark.parametrize(
    'register',
    [
        torch_module.register_module_forward_hook,
        torch_module.register_module_forward_pre_hook,
        torch_module.register_module_full_backward_hook,
    ],
)
def test_global_hooks_see_every_module(register):
    model = make().train()
    seen = set()
    handle = register(lambda module, *args: seen.add(module) and None)
    try:
        x = images().requires_grad_()
        sum(out.mean() for out in model(x)).backward()
    finally:
        handle.remove()
    assert seen >= set(leaves_and_layers(model).values())


@pytest.mark.parametrize('name', ['block1.0.attn.s', 'block4.0.attn.kv'])
def test_a_hook_changes_the_result(name):
    model, other = make(), make()
    model.get_submodule(name).register_forward_hook(lambda m, x, out: out + 1)
    other.get_submodule(name).bias.data += 1
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert_near(model(images()), other(images()), 1e-4)


def test_checks_of_a_pass_end_with_it():
    model, x = make(), images()
    layer = model.block1[0].mlp.fc1
    with (
        torch.no_grad(),
        pytest.raises(KeyError),
        contracts.checked_once(model, x),
    ):
        assert contracts.is_stock(layer) and contracts.inferred_on_cpu(x)
        raise KeyError
    if hasattr(layer, 'compile'):  # from torch 2.2 on
        layer.compile(backend='eager')
        assert not contracts.is_stock(layer)
        layer._compiled_call_impl = None
    layer.register_forward_hook(lambda *args: None)
    assert not contracts.is_stock(layer) and not contracts.inferred_on_cpu(x)
    with contracts.checked_once(model, x):
        assert not contracts.is_stock(layer)
        assert contracts.is_stock(model.block1[0].mlp.fc2)
        assert not contracts.inferred_on_cpu(x)


# What stands in for a layer --------------------------------------------------


class Plus(nn.Module):
    def forward(self, x):
        return x + 1


class Adapter(nn.Module):
    """As LoRA's: the layer's weights are still attributes."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x):
        return self.layer(x) + 1


def wrap(model: nn.Module, name: str) -> None:
    parent, _, child = name.rpartition('.')
    layer = model.get_submodule(name)
    setattr(model.get_submodule(parent), child, Adapter(layer))


def override_forward(model: nn.Module, name: str) -> None:
    layer = model.get_submodule(name)
    forward = layer.forward
    layer.forward = lambda x: forward(x) + 1


def parametrize_bias(model: nn.Module, name: str) -> None:
    parametrize.register_parametrization(
        model.get_submodule(name), 'bias', Plus()
    )


LINEARS = ['block1.0.attn.s', 'block1.0.attn.v', 'block4.0.attn.kv']
LINEARS += ['block2.0.mlp.fc1', 'block3.1.attn.proj']


@pytest.mark.parametrize('name', LINEARS)
@pytest.mark.parametrize('change', [wrap, override_forward, parametrize_bias])
def test_what_stands_in_for_a_linear_layer_is_called(change, name):
    model, other = make(), make()
    change(model, name)
    other.get_submodule(name).bias.data += 1
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert_near(model(images()), other(images()), 1e-4)


class LinearOnly(nn.Parameter):
    """A weight, such as torchao's, of which only ``F.linear`` can be had."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if function is F.linear:
                x, weight, *rest = args
                kwargs = kwargs or {}
                return F.linear(x, nn.Parameter(weight.data), *rest, **kwargs)
            if getattr(function, '__name__', '') in ('__get__', 'dim'):
                return function(*args, **(kwargs or {}))
            raise NotImplementedError(f'{function} of a quantized weight')


def test_weights_that_are_no_plain_tensors():
    model, other = make(), make()
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.weight = LinearOnly(layer.weight.data)
    with torch.no_grad():
        assert_near(model(images()), other(images()))


def test_dynamic_quantization():
    model = SMT('tiny').eval()
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    kinds = [type(m) for m in quantized.modules()]
    assert nn.Linear not in kinds
    assert torch.ao.nn.quantized.dynamic.Linear in kinds
    assert size_of(quantized) <= 0.45 * size_of(model)
    with torch.no_grad():
        outs, expected = quantized(images()), model(images())
    for out, ref in zip(outs, expected):
        cosine = F.cosine_similarity(out.flatten(), ref.flatten(), dim=0)
        assert cosine > 0.98


# Maps that tools aim at ------------------------------------------------------


def test_maps_between_modules_are_nchw():
    model = make()
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.LayerNorm, SMTBlock)):
            module.register_forward_hook(
                lambda m, x, out, name=name: shapes.update({name: out.shape})
            )
    model(images())
    for name, shape in shapes.items():
        stage = int(name.split('.')[0][-1])
        assert tuple(shape[1:]) == (
            ARCH['embed_dims'][stage - 1],
            *[64 >> (stage + 1)] * 2,
        ), name


# Initial weights -------------------------------------------------------------


def test_weights_after_meta():
    """Every parameter and buffer is set, as on a CPU."""
    with torch.device('meta'):
        model = SMT(ARCH, layer_scale_init_value=1e-4)
    model.to_empty(device='cpu')
    for value in (*model.parameters(), *model.buffers()):
        value.data.fill_(7)
    torch.manual_seed(0)
    model.init_weights()
    torch.manual_seed(0)
    other = SMT(ARCH, layer_scale_init_value=1e-4)
    torch.manual_seed(0)
    other.init_weights()
    for (name, ours), theirs in zip(
        model.state_dict().items(), other.state_dict().values()
    ):
        assert torch.equal(ours, theirs), name


def test_init_is_reported(tmp_path):
    """mmengine logs for every parameter how it was initialized."""
    path = tmp_path / 'log'
    logger = MMLogger.get_instance('init', log_file=str(path))
    try:
        model = SMT(ARCH)
        model.init_weights()
    finally:  # it is the current one until it is gone
        MMLogger._instance_dict.pop('init')
        for handler in logger.handlers:
            handler.close()
    text = path.read_text()
    assert 'The value is the same' not in text
    assert text.count('SMTInit: ') == len(list(model.parameters()))
