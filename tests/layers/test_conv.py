"""Check that large depth-wise convolutions are trained in fp32 in bf16."""

from contextlib import nullcontext

import torch
from torch import nn

from mmsmt.execution import disabled
from mmsmt.layers.conv import large_depthwise


def depthwise(size: int) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(16, 16, size, padding=size // 2, groups=16)


def train(conv, dtype=torch.bfloat16, context=None):
    """Return output, gradients of input, weight and bias, and the operator."""
    torch.manual_seed(1)
    x, grad = torch.randn(2, 2, 16, 20, 12)
    x = x.to(dtype).requires_grad_()
    autocast = torch.autocast('cpu', enabled=dtype != torch.float32)
    with autocast, context or nullcontext():
        out = large_depthwise(conv, x)
    last = type(out.grad_fn).__name__
    out.backward(grad.to(out.dtype))
    return [out, x.grad, conv.weight.grad, conv.bias.grad], last


def test_gradients_in_bf16():
    outs, last = train(depthwise(7))
    assert last == 'ToCopyBackward0'
    assert [out.dtype for out in outs] == 2 * [torch.bfloat16] + 2 * [
        torch.float32
    ]
    expected, _ = train(depthwise(7), torch.float32)
    before, last = train(depthwise(7), context=disabled())
    assert last == 'ConvolutionBackward0'
    for a, b, c in zip(outs, expected, before):
        error, bound = ((t.float() - b).norm() / b.norm() for t in (a, c))
        assert error < 1.1 * bound < 0.02


def test_calls_that_stay_in_bf16():
    """Keep bf16 for small kernels, frozen or bf16 weights, and hooks."""
    hooked, seen = depthwise(7), []
    hooked.register_forward_hook(lambda _, x, out: seen.append(x[0].dtype))
    for conv in (depthwise(3), hooked, depthwise(7).bfloat16()):
        assert train(conv)[1] == 'ConvolutionBackward0'
    assert seen == [torch.bfloat16]
    frozen = depthwise(7).requires_grad_(False)
    x = torch.randn(1, 16, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast('cpu'):
        out = large_depthwise(frozen, x)
    assert type(out.grad_fn).__name__ == 'ConvolutionBackward0'
    with torch.no_grad(), torch.autocast('cpu'):
        conv = depthwise(7)
        assert torch.equal(large_depthwise(conv, x), conv(x))
