"""What makes the backbone quick and small, by structure: no clock here."""

import copy
from collections import Counter

import golden
import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from mmcv.cnn.utils import fuse_conv_bn
from plain_smt import PlainSMT
from support.small import make
from torch.profiler import ProfilerActivity, profile

from mmsmt import SMT
from mmsmt.execution import steps
from mmsmt.layers import attention, conv, linear
from mmsmt.models.smt import SMTBlock

TORCH = tuple(int(v) for v in torch.__version__.split('.')[:2])


@pytest.fixture(scope='module')
def model() -> SMT:
    return make()


def loss_of(outs) -> torch.Tensor:
    return sum((out * out.detach().cos()).mean() for out in outs)


def close(outs, references, tolerance=1e-5) -> bool:
    return all(
        (out - ref).abs().max() <= tolerance * ref.abs().max()
        for out, ref in zip(outs, references, strict=True)
    )


def operators(run) -> Counter:
    with profile(activities=[ProfilerActivity.CPU]) as record:
        run()
    return Counter(event.name for event in record.events())


# Inference on a CPU ----------------------------------------------------------


@pytest.mark.parametrize('shape', [(1, 3, 101, 67), (5, 3, 64, 96)])
@pytest.mark.parametrize('kilobytes', [1, 40, 150])
def test_bands_change_nothing(model, monkeypatch, shape, kilobytes):
    """Bands of one row, of some, of several images; folded batch norms."""
    model = copy.deepcopy(model).double()
    images = torch.randn(shape).double()
    references = [out.detach() for out in model(images)]  # autograd: whole
    bands = []
    mix = SMTBlock._mix
    monkeypatch.setattr(
        SMTBlock,
        '_mix',
        lambda self, x: bands.append(x.shape) or mix(self, x),
    )
    monkeypatch.setattr(steps, 'BAND_BYTES', kilobytes * 1024)
    with torch.no_grad():
        outs = model(images)
    assert close(outs, references, 1e-12)
    assert len(bands) > 5


@pytest.mark.parametrize('name', ['tiny', 'large-22k'])
def test_golden_in_bands(monkeypatch, name):
    """The second has LayerScale."""
    monkeypatch.setattr(steps, 'BAND_BYTES', 200 * 1024)
    case = golden.case(name)
    model = SMT(**golden.arch_args(name)).eval()
    model.load_state_dict(case['weights'])
    with torch.no_grad():
        outs = model(torch.from_numpy(case['input']))
    stages = [torch.as_tensor(case[f'stage{i}']) for i in range(1, 5)]
    assert close(outs, stages)


@pytest.mark.parametrize('norm', ['BN', 'GN'])
def test_no_bands_where_statistics_need_the_whole_map(monkeypatch, norm):
    """A batch norm that trains under no_grad; norms of each image."""
    monkeypatch.setattr(steps, 'BAND_BYTES', 1024)
    norm_cfg = (
        dict(type='BN') if norm == 'BN' else dict(type=norm, num_groups=4)
    )
    models = [make(norm_cfg=norm_cfg).double() for _ in range(2)]
    for model in models:
        model.train(norm == 'BN')
    images = torch.randn(2, 3, 64, 96).double()
    references = [out.detach() for out in models[0](images)]
    with torch.no_grad():
        assert close(models[1](images), references, 1e-12)
    for ours, theirs in zip(models[1].buffers(), models[0].buffers()):
        assert torch.equal(ours, theirs)


def test_no_bands_where_drop_path_is_per_image(monkeypatch):
    monkeypatch.setattr(steps, 'BAND_BYTES', 1024)
    model = make(drop_path_rate=0.5, norm_eval=True).double().train()
    images = torch.randn(4, 3, 64, 64).double()
    torch.manual_seed(0)
    references = [out.detach() for out in model(images)]
    torch.manual_seed(0)
    with torch.no_grad():
        assert close(model(images), references, 1e-12)


def test_hooks_see_whole_maps(monkeypatch):
    """As they would in training: no bands, no folding where someone looks."""
    monkeypatch.setattr(steps, 'BAND_BYTES', 1024)
    model = make()
    seen = []
    for module in (model.patch_embed1.bn, *model.modules()):
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.Linear)):
            module.register_forward_hook(
                lambda module, inputs, out: seen.append(module)
            )
    images = torch.randn(1, 3, 64, 96)
    model(images)
    expected = seen.copy()
    seen.clear()
    with torch.no_grad():
        model(images)
    assert seen == expected


def test_whatever_stands_in_for_a_layer():
    """Adapters and norms of other kinds are called, hooks on parts run."""

    class Adapter(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer, self.weight = layer, layer.weight
            self.bias = layer.bias

        def forward(self, x):
            return self.layer(x) + 1

    class Norm(torch.nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) + 1

    images = torch.randn(1, 3, 64, 64)
    model, other = make(), make()
    mixers = [model.block1[0].attn, model.block4[0].attn]
    mixers[0].s.register_forward_hook(lambda module, x, out: out + 1)
    mixers[1].kv = Adapter(mixers[1].kv)
    other.block1[0].attn.s.bias.data += 1
    other.block4[0].attn.kv.bias.data += 1
    norm = model.patch_embed1.bn
    model.patch_embed1.bn = Norm(len(norm.weight)).eval()
    model.patch_embed1.bn.load_state_dict(norm.state_dict())
    other.patch_embed1.bn.bias.data += 1
    with torch.no_grad():
        assert close(model(images), other(images), 1e-3)
    assert close(model(images), other(images), 1e-3)


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


def test_with_cp_goes_back_twice():
    model = make(with_cp=True).train()
    loss = loss_of(model(torch.randn(2, 3, 64, 64)))
    loss.backward(retain_graph=True)
    first = [p.grad.clone() for p in model.parameters()]
    before = [buffer.clone() for buffer in model.buffers()]
    loss.backward()
    for param, grad in zip(model.parameters(), first):
        assert torch.allclose(param.grad, 2 * grad, rtol=1e-3, atol=1e-6)
    assert all(map(torch.equal, model.buffers(), before))


def test_linear_is_linear():
    """Above and below the size at which a CPU takes a convolution for it."""
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
def test_onednn_whatever_the_number_of_threads(model, threads):
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


# Attention -------------------------------------------------------------------


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


# Copies ----------------------------------------------------------------------


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


# Memory ----------------------------------------------------------------------


def kept_bytes(model, images) -> int:
    """What autograd keeps of a forward pass for the backward pass."""
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        model(images)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(
        storage.nbytes()
        for pointer, storage in storages.items()
        if pointer not in weights
    )


@pytest.mark.slow
def test_a_training_step_keeps_less_than_the_plain_form():
    """Tiny at 512 x 512: no N x N map; with checkpoints blocks' inputs."""
    images = torch.randn(1, 3, 512, 512)
    plain = kept_bytes(PlainSMT().train(), images)
    ours = kept_bytes(SMT('tiny').train(), images)
    assert ours < 0.83 * plain
    checkpointed = kept_bytes(SMT('tiny', with_cp=True).train(), images)
    assert checkpointed < 0.15 * plain


# torch.compile ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['inference', 'training', 'with_cp'])
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
