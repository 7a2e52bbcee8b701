"""Traced, exported, folded and compiled models."""

import copy

import pytest
import torch
import torch._dynamo.testing
from mmcv.cnn.utils import fuse_conv_bn
from support.compare import close, loss_of
from support.small import make

from mmsmt import SMT
from mmsmt.execution import steps

TORCH = tuple(int(v) for v in torch.__version__.split('.')[:2])


@pytest.fixture(scope='module')
def model() -> SMT:
    return make()


@pytest.mark.parametrize('no_grad', [torch.no_grad, torch.inference_mode])
def test_traced_for_any_size(monkeypatch, no_grad):
    """A trace is not of the bands of one image."""
    monkeypatch.setattr(steps, 'BAND_BYTES', 1024)
    model = make()
    with no_grad():
        traced = torch.jit.trace(model, torch.randn(1, 3, 64, 96))
        images = torch.randn(1, 3, 96, 128)
        assert close(traced(images), model(images), 1e-3)


@pytest.mark.skipif(TORCH < (2, 6), reason='this torch needs ranges')
def test_exported_for_any_size(model):
    dims = {dim: torch.export.Dim.DYNAMIC for dim in (0, 2, 3)}
    with torch.no_grad():
        images = torch.randn(2, 3, 64, 96)
        program = torch.export.export(model, (images,), dynamic_shapes=(dims,))
        images = torch.randn(3, 3, 128, 160)
        assert close(program.module()(images), model(images), 1e-3)


def test_folded_by_a_host(model):
    """mmcv's fuse_conv_bn leaves an identity in the place of each norm."""
    images = torch.randn(1, 3, 64, 96)
    fused = fuse_conv_bn(copy.deepcopy(model))
    assert isinstance(fused.block1[0].attn.saa.bn, torch.nn.Identity)
    assert fused.block1[0].attn.halo == model.block1[0].attn.halo == 4
    with torch.no_grad():
        assert close(fused(images), model(images), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    'mode',
    [
        'inference',
        pytest.param('training', marks=pytest.mark.one_stack),
        pytest.param('with_cp', marks=pytest.mark.one_stack),
    ],
)
def test_compiles_whole_for_any_size(mode):
    """Without a graph break, for images of changing sizes, exactly."""
    if mode == 'with_cp' and TORCH < (2, 4):
        pytest.skip('this torch cannot compile checkpoints')
    torch._dynamo.reset()
    model = make(with_cp=mode == 'with_cp').train(mode != 'inference')
    dtype = torch.float32 if mode == 'inference' else torch.float64
    model.to(dtype)
    twin = copy.deepcopy(model)
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(
        twin, backend=counter, fullgraph=True, dynamic=True
    )
    for size in ((64, 96), (96, 160), (160, 128), (128, 192)):
        images = torch.randn(2, 3, *size, dtype=dtype)
        with torch.set_grad_enabled(mode != 'inference'):
            outs, references = compiled(images), model(images)
        tolerance = 1e-3 if mode == 'inference' else 1e-10
        assert close(outs, references, tolerance)
        if mode != 'training':  # with_cp: below
            continue
        for net, maps in ((model, references), (compiled, outs)):
            net.zero_grad()
            loss_of(maps).backward()
        for (name, ours), theirs in zip(
            twin.named_parameters(), model.parameters()
        ):
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-10), name
        for ours, theirs in zip(twin.buffers(), model.buffers()):
            assert torch.allclose(ours, theirs)
    assert counter.frame_count < 3  # not one for each size


@pytest.mark.slow
@pytest.mark.skipif(TORCH < (2, 4), reason='cannot compile checkpoints')
def test_compiled_checkpoints_move_statistics_once():
    """Here the compiler's own recomputation is at work."""
    torch._dynamo.reset()
    model = make(with_cp=True).double().train()
    twin = copy.deepcopy(model)
    images = torch.randn(2, 3, 64, 96).double()
    compiled = torch.compile(twin, backend='aot_eager', dynamic=False)
    for net in (model, compiled):
        loss_of(net(images)).backward()
    for ours, theirs in zip(twin.buffers(), model.buffers()):
        assert torch.allclose(ours, theirs)
    for ours, theirs in zip(twin.parameters(), model.parameters()):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-10)


def test_graph_breaks_are_none():
    torch._dynamo.reset()
    report = torch._dynamo.explain(make().train())(torch.randn(1, 3, 64, 64))
    assert report.graph_count == 1
    assert report.graph_break_count == 0
