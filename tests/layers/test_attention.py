"""Attention takes PyTorch's fused kernels."""

import pytest
import torch
import torch.nn.functional as F
from support.compare import close, operators
from support.small import make
from torch._dynamo.testing import CompileCounter

from mmsmt.execution import disabled, steps
from mmsmt.layers import attention

TORCH = tuple(int(v) for v in torch.__version__.split('.')[:2])


def qkv(tokens: int, **kwargs):
    torch.manual_seed(0)
    return [torch.randn(2, 3, tokens, 32, **kwargs) for _ in range(3)]


@pytest.mark.skipif(TORCH < (2, 2), reason='this torch has no such CPU kernel')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_fused_attention_is_taken(dtype):
    kernel = 'aten::_scaled_dot_product_flash_attention_for_cpu'
    inputs = qkv(300, dtype=dtype, requires_grad=True)
    names = operators(lambda: attention.attend(*inputs).sum().backward())
    assert names[kernel] == names[f'{kernel}_backward'] == 1
    with torch.no_grad():
        assert operators(lambda: attention.attend(*inputs))[kernel] == 1
        names = operators(lambda: make()(torch.randn(1, 3, 64, 64)))
    assert names[kernel] == 2
    assert names['aten::_softmax'] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize(
    ('dtype', 'kernel'),
    [
        (torch.float32, 'efficient'),
        (torch.bfloat16, 'flash'),
        (torch.float16, 'flash'),
    ],
)
def test_fused_attention_is_taken_on_a_gpu(dtype, kernel):
    inputs = qkv(300, dtype=dtype, requires_grad=True, device='cuda')
    names = operators(lambda: attention.attend(*inputs).sum().backward())
    cudnn = names['aten::_scaled_dot_product_cudnn_attention']
    assert names[f'aten::_scaled_dot_product_{kernel}_attention'] + cudnn == 1


def test_attention_without_fused_kernels():
    """PyTorch's own fallback is the same function."""
    inputs = qkv(300)
    if hasattr(torch.nn, 'attention'):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        context = sdpa_kernel(SDPBackend.MATH)
    else:
        context = torch.backends.cuda.sdp_kernel(
            enable_flash=False, enable_mem_efficient=False
        )
    with context:
        names = operators(lambda: attention.attend(*inputs))
        fallback = attention.attend(*inputs)
    assert not any('flash' in name for name in names)
    q, k, v = (t.double() for t in inputs)
    expected = (q @ k.transpose(2, 3) * 32**-0.5).softmax(-1) @ v
    assert close([fallback], [expected.float()])
    assert close([attention.attend(*inputs)], [expected.float()])


@pytest.mark.parametrize('tokens', [196, 256])
def test_attention_of_few_tokens_in_bf16(tokens):
    """Compare errors beside fp32 with those of the plain form in bf16."""
    inputs = qkv(tokens)

    def plain(q, k, v):
        return (q @ k.transpose(2, 3) * 32**-0.5).softmax(-1) @ v

    def results(attend, dtype):
        leaves = [t.detach().to(dtype).requires_grad_() for t in inputs]
        out = attend(*leaves)
        out.backward(inputs[0].to(dtype))
        return [out, *(leaf.grad for leaf in leaves)]

    def errors(attend):
        pairs = zip(results(attend, torch.bfloat16), expected)
        return [((a.float() - b).norm() / b.norm()).item() for a, b in pairs]

    expected = results(plain, torch.float32)
    names = operators(lambda: results(attention.attend, torch.bfloat16))
    assert not any('scaled_dot_product' in name for name in names)
    for error, bound in zip(errors(attention.attend), errors(plain)):
        assert error < 1.1 * bound < 0.02
    with disabled():
        names = operators(lambda: results(attention.attend, torch.bfloat16))
    assert any('scaled_dot_product' in name for name in names)
    frozen = [t.bfloat16() for t in inputs]
    names = operators(lambda: attention.attend(*frozen))
    assert any('scaled_dot_product' in name for name in names)


def test_attention_compiles_once_for_any_number_of_tokens():
    """Check that no limit of tokens becomes a guard of the graph."""
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(attention.attend, backend=counter, dynamic=True)
    for tokens in (300, 200, 1100):
        inputs = qkv(tokens, dtype=torch.bfloat16)
        with torch.no_grad():
            expected = F.scaled_dot_product_attention(*inputs)
            assert torch.equal(compiled(*inputs), expected)
    assert counter.frame_count == 1


def test_attention_in_bands_of_bf16(monkeypatch):
    """As close to fp32 as the plain form in bf16 is."""
    inputs = qkv(1100)
    expected = F.scaled_dot_product_attention(*inputs)
    q, k, v = halves = [t.bfloat16() for t in inputs]
    plain = (q @ k.transpose(2, 3) * 32**-0.5).softmax(-1) @ v
    monkeypatch.setattr(steps, 'BAND_BYTES', 2**20)
    with torch.no_grad():
        names = operators(lambda: attention.attend(*halves))
        out = attention.attend(*halves)
    assert not any('scaled_dot_product' in name for name in names)
    error, bound = (
        (t.float() - expected).norm() / expected.norm() for t in (out, plain)
    )
    assert error < 1.1 * bound < 0.02
