"""Linear layers and convolutions on maps in memory channels last."""

import pytest
import torch
from support.compare import close, loss_of, operators
from support.small import make
from torch.profiler import ProfilerActivity, profile

from mmsmt import SMT
from mmsmt.layers import conv, linear


@pytest.fixture(scope='module')
def model() -> SMT:
    return make()


@pytest.mark.parametrize('mkl_is_slow', [False, True])
def test_linear_is_linear(monkeypatch, mkl_is_slow):
    """Above and below the size at which a CPU takes a convolution for it."""
    monkeypatch.setattr(linear, 'MKL_IS_SLOW', mkl_is_slow)
    layer = torch.nn.Linear(48, 20)
    for shape in ((2, 48, 9, 8), (1, 48, 3, 4)):
        x = torch.randn(shape).to(memory_format=torch.channels_last)
        x.requires_grad_()
        out = linear.linear(layer, x)
        expected = layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        assert close([out], [expected])
        probe = torch.randn_like(out)
        inputs = (x, layer.weight, layer.bias)
        assert close(
            torch.autograd.grad(out, inputs, probe),
            torch.autograd.grad(expected, inputs, probe),
        )


@pytest.mark.skipif(not linear.HAS_ONEDNN, reason='no oneDNN')
@pytest.mark.parametrize('threads', [1, 2])
def test_onednn_whatever_the_number_of_threads(model, threads, monkeypatch):
    monkeypatch.setattr(linear, 'MKL_IS_SLOW', True)
    x = torch.randn(1, 32, 32, 32)  # a smaller one stays without
    saa = model.block1[0].attn.saa
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with torch.no_grad():
        names = operators(
            lambda: (
                conv.conv_bn(saa.intra, saa.bn, x),
                linear.linear(torch.nn.Linear(32, 8), x),
            )
        )
    torch.set_num_threads(before)
    assert names['aten::mkldnn_convolution'] == 2


@pytest.mark.skipif(not linear.HAS_ONEDNN, reason='no oneDNN')
def test_mkl_where_it_is_as_fast(monkeypatch):
    """Multiply by it; ONNX gets convolutions."""
    monkeypatch.setattr(linear, 'MKL_IS_SLOW', False)
    layer, x = torch.nn.Linear(64, 256), torch.randn(1, 64, 31, 64)
    names = operators(lambda: linear.linear(layer, x))
    assert 'aten::mkldnn_convolution' not in names
    layer.requires_grad_(False)  # a trace takes constants alone
    traced = torch.jit.trace(lambda x: linear.linear(layer, x), x)
    assert 'aten::_convolution' in str(traced.inlined_graph)


@pytest.mark.parametrize('affine', [True, False])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_norms_are_folded(dtype, bias, affine):
    """Also one in fp32 after a convolution in bf16."""
    layer = torch.nn.Conv2d(8, 16, 3, bias=bias).to(dtype)
    bn = torch.nn.BatchNorm2d(16, affine=affine)
    bn(torch.randn(8, 16, 9, 9) * 3 + 1)
    bn.eval()
    x = torch.randn(2, 8, 9, 9).to(dtype)
    with torch.no_grad():
        expected = bn(layer(x).float())
        out = conv.conv_bn(layer, bn, x)
        assert out.dtype == dtype
        assert close(
            [out.float()], [expected], 1e-5 if dtype.itemsize == 4 else 0.05
        )


def test_only_the_image_and_the_outputs_are_copied(model):
    """Images to channels last, four maps to NCHW, and no other activation."""
    # 17: no weight has such a dimension, and from 16 PyTorch takes oneDNN for
    # 1 x 1 convolutions even on one thread.
    images = torch.randn(17, 3, 64, 96)

    def copies(run) -> list:
        with profile(
            activities=[ProfilerActivity.CPU], record_shapes=True
        ) as record:
            run()
        return [
            event.input_shapes[0]
            for event in record.events()
            if event.name == 'aten::copy_' and 17 in event.input_shapes[0][:1]
        ]

    outs = []
    expected = [(17, 3, 64, 96)]
    training = copies(lambda: outs.extend(model(images)))
    expected += [tuple(out.shape) for out in outs]
    assert sorted(map(tuple, training)) == sorted(expected)
    with torch.no_grad():
        inference = copies(lambda: model(images))
    assert sorted(map(tuple, inference)) == sorted(expected)


def test_backward_copies_no_slices(model):
    """An addition in place of a view would, for a quarter of the time."""
    names = operators(
        lambda: loss_of(model(torch.randn(1, 3, 64, 64))).backward()
    )
    model.zero_grad()
    assert any('Backward' in name for name in names)
    assert not any('CopySlices' in name for name in names)
