"""Compare operators of oneDNN with those that they replace."""

import pytest
import torch
import torch.nn.functional as F
from support.compare import close, operators
from torch import nn

from mmsmt.layers import onednn


@pytest.fixture(params=[True, False])
def fused(request, monkeypatch) -> bool:
    """With a oneDNN that fuses, and without."""
    if request.param and not onednn.HAS_FUSED:
        pytest.skip('no or old oneDNN')
    monkeypatch.setattr(onednn, 'HAS_FUSED', request.param)
    return request.param


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('shape', [(2, 9, 8, 48), (1, 32, 40, 48)])
@pytest.mark.parametrize('many', [1, 10**6])
def test_multiply(many, shape, bias, fused, monkeypatch):
    """Add to a map, or multiply by one, and leave it alone."""
    monkeypatch.setattr(onednn, 'MANY', many)
    layer, x = nn.Linear(48, 20, bias=bias), torch.randn(shape)
    other = torch.randn(*shape[:3], 20)
    before = other.clone()
    weights = layer.weight, layer.bias
    with torch.no_grad():
        y = layer(x)
        assert close([onednn.multiply(x, *weights)], [y])
        out = onednn.multiply(x, *weights, plus=other)
        assert close([out], [y + other])
        out = onednn.multiply(x, *weights, times=other)
        assert close([out], [y * other])
        names = operators(lambda: onednn.multiply(x, *weights, plus=other))
    assert torch.equal(other, before)
    by_onednn = 'mkldnn::_linear_pointwise' in names
    assert by_onednn == (fused and many == 1)
    if not fused and onednn.HAS_ONEDNN:
        by_onednn = 'aten::mkldnn_convolution' in names
        assert by_onednn == (many == 1 and x.numel() > 20480)


def test_strided_weights(fused):
    """Read weights and biases that are columns of others."""
    table = torch.randn(32, 48 * 2 + 1)
    weight, bias = table[:, 1::2], table[:, 0]
    x = torch.randn(1, 32, 64, 48)
    with torch.no_grad():
        out = onednn.multiply(x, weight, bias)
        assert close([out], [F.linear(x, weight, bias)])
        kernels = table[:, : 9 * 2 : 2].unflatten(1, (1, 3, 3))
        x = torch.randn(1, 32, 9, 8).to(memory_format=torch.channels_last)
        out = onednn.convolve(x, kernels, bias, 32)
        expected = F.conv2d(x, kernels, bias, padding=1, groups=32)
        assert close([out], [expected])


@pytest.mark.parametrize('act', [None, nn.GELU(), nn.SiLU()], ids=str)
@pytest.mark.parametrize('size', [1, 3])
def test_convolve(size, act, fused):
    """Compute an activation after a convolution."""
    x = torch.randn(2, 32, 9, 8).to(memory_format=torch.channels_last)
    conv = nn.Conv2d(32, 32, size, padding=size // 2, groups=8)
    args = x, conv.weight, conv.bias, 8
    with torch.no_grad():
        y = conv(x)
        out = onednn.convolve(*args, act)
        assert close([out], [act(y) if act else y])
        assert out.is_contiguous(memory_format=torch.channels_last)
        names = operators(lambda: onednn.convolve(*args, act))
    known = act is None or onednn.fused_name(act) is not None
    called = 'mkldnn::_convolution_pointwise' in names
    assert called == (fused and known)


@pytest.mark.parametrize(
    ('act', 'name'),
    [
        (nn.GELU(), ('gelu', 'none')),
        (nn.GELU('tanh'), ('gelu', 'tanh')),
        (nn.ReLU(), ('relu', None)),
        (nn.SiLU(), None),
        (type('Own', (nn.GELU,), {})(), None),
    ],
)
def test_names(act, name):
    assert onednn.fused_name(act) == name


SIZES_AT_RANDOM = """
import random, torch
from torch import nn
from torch.nn import functional as F
from mmsmt.layers.onednn import convolve
torch.set_num_threads(1)
draw = random.Random(0)
with torch.no_grad():
    for _ in range(2000):
        size, act = draw.randint(8, 13), draw.choice([nn.GELU(), nn.ReLU()])
        conv = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        x = torch.randn(1, 32, size, size)
        x = x.to(memory_format=torch.channels_last)
        out = convolve(x, conv.weight, conv.bias, 32, act)
        args = x.double(), conv.weight.double(), conv.bias.double()
        expected = act(F.conv2d(*args, padding=1, groups=32))
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
