"""mmcv's operators at the edges: nothing to do, other dtypes, no kernel."""

import mmcv.ops
import pytest
import torch
from torch.autograd import gradcheck

from mmsmt.ops import operators_in_use
from mmsmt.ops.kernels import MissingOperator, find_kernel

if operators_in_use() == 'compiled':
    pytest.skip('mmcv is compiled here', allow_module_level=True)

HALF = [torch.float16, torch.bfloat16]


def boxes(count: int, side: float = 40) -> torch.Tensor:
    corners = torch.rand(count, 4) * side
    corners[:, 2:] += corners[:, :2] + 1
    return corners


def rois(count: int, images: int = 2) -> torch.Tensor:
    index = torch.randint(0, images, (count, 1)).float()
    return torch.cat([index, boxes(count)], dim=1)


def assert_near_half(actual, expected, dtype):
    assert actual.dtype == dtype
    scale = expected.abs().max()
    assert (actual.float() - expected).abs().max() <= 0.02 * scale


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('count', [0, 1])
def test_few_boxes(count):
    one, scores = boxes(count), torch.rand(count)
    dets, keep = mmcv.ops.nms(one, scores, 0.5)
    assert dets.shape == (count, 5) and keep.tolist() == [0] * count
    dets, keep = mmcv.ops.soft_nms(one, scores)
    assert dets.shape == (count, 5) and keep.tolist() == [0] * count
    groups = mmcv.ops.nms_match(torch.cat([one, scores[:, None]], 1), 0.5)
    assert [group.tolist() for group in groups] == [[0]] * count
    assert mmcv.ops.bbox_overlaps(one, boxes(3)).shape == (count, 3)


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_no_region(mode):
    features = torch.rand(1, 3, 8, 8, requires_grad=True)
    for pool in (
        lambda x, r: mmcv.ops.roi_align(x, r, 4, 1.0, 0, mode),
        lambda x, r: mmcv.ops.roi_pool(x, r, 4),
        lambda x, r: mmcv.ops.deform_roi_pool(x, r, x.new_empty(0), 4),
    ):
        features.grad = None
        pooled = pool(features, torch.zeros(0, 5))
        assert pooled.shape == (0, 3, 4, 4)
        pooled.sum().backward()
        assert not features.grad.any()


def test_scores_of_another_dtype():
    """Under autocast boxes stay in single precision."""
    all_boxes = boxes(50)
    scores = torch.rand(50).bfloat16()
    _, expected = mmcv.ops.nms(all_boxes, scores.float(), 0.3)
    assert torch.equal(mmcv.ops.nms(all_boxes, scores, 0.3)[1], expected)
    wide = all_boxes.double(), scores.double()
    assert torch.equal(mmcv.ops.nms(*wide, 0.3)[1], expected)


def test_not_a_number_among_scores():
    dets = boxes(6), torch.tensor([0.5, float('nan'), 0.9, 0.1, 0.7, 0.3])
    kept, index = mmcv.ops.soft_nms(*dets, min_score=0)
    assert sorted(index.tolist()) == list(range(6))
    assert kept.isnan().sum() == 1


@pytest.mark.parametrize('dtype', HALF)
def test_half_precision(dtype):
    features = torch.rand(2, 4, 12, 12)
    regions = rois(5).to(dtype).float()
    for mode in ('avg', 'max'):
        low = features.to(dtype).requires_grad_()
        high = low.detach().float().requires_grad_()
        pooled = mmcv.ops.roi_align(low, regions.to(dtype), 3, 0.25, 0, mode)
        exact = mmcv.ops.roi_align(high, regions, 3, 0.25, 0, mode)
        assert_near_half(pooled, exact, dtype)
        pooled.sum().backward()
        exact.sum().backward()
        if mode == 'avg':  # the largest may be another in half precision
            assert_near_half(low.grad, high.grad, dtype)
    offset = torch.rand(2, 18, 12, 12)
    weight = torch.rand(6, 4, 3, 3)
    for mask in (None, torch.rand(2, 9, 12, 12)):
        results = []
        for to in (dtype, torch.float32):
            args = [features, offset, weight]
            if mask is not None:
                args.insert(2, mask)
            args = [x.to(dtype).to(to).requires_grad_() for x in args]
            if mask is None:
                output = mmcv.ops.deform_conv2d(*args, 1, 1)
            else:
                output = mmcv.ops.modulated_deform_conv2d(*args, None, 1, 1)
            output.sum().backward()
            results.append([output.detach(), *(x.grad for x in args)])
        for actual, expected in zip(*results):
            assert_near_half(actual, expected, dtype)


def test_region_that_is_no_region():
    features = torch.rand(1, 2, 8, 8)
    for values in ([0, 5, 5, 1, 1], [0, 1, 1, float('nan'), 3]):
        with pytest.raises(ValueError, match='region 1 of 2 has a negative'):
            mmcv.ops.roi_align(
                features, torch.tensor([[0, 0, 0, 4, 4.0], values]), 2
            )


def test_missing_operator():
    with pytest.raises(MissingOperator) as error:
        mmcv.ops.RoIAlignRotated(3, 1.0)(
            torch.rand(1, 2, 8, 8), torch.rand(1, 6)
        )
    message = str(error.value)
    for words in (
        "'roi_align_rotated_forward'",
        "mmrotate's two-stage detectors",
        'setup_env.py --compile',
    ):
        assert words in message
    with pytest.raises(MissingOperator, match="'no_such_operator'"):
        find_kernel('no_such_operator')()


# Operators that mmcv has for a GPU only, or without golden outputs -----------


@pytest.mark.parametrize(
    ('number', 'text'), [(12010, '12.1'), (13000, '13.0')]
)
def test_cuda_version(monkeypatch, number, text):
    """torchvision gives a number, and none where it has no CUDA kernels."""
    from mmsmt.ops.kernels import get_compiling_cuda_version

    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torchvision.version.cuda', number, raising=False)
    assert get_compiling_cuda_version() == text
    monkeypatch.delattr('torchvision.version.cuda')
    assert get_compiling_cuda_version() == 'not available'


def test_roi_pool():
    """Against its definition, cell by cell."""
    features = torch.rand(2, 2, 10, 12, requires_grad=True)
    regions = torch.cat([rois(4), torch.tensor([[0, 50, 50, 60, 60.0]])])
    pooled = mmcv.ops.roi_pool(features, regions, (3, 2), 0.25)
    grad = torch.rand_like(pooled)
    pooled.backward(grad)
    expected = torch.zeros_like(pooled)
    expected_grad = torch.zeros_like(features)
    for n, (image, x1, y1, x2, y2) in enumerate(regions.tolist()):
        x1, y1 = x1 / 4, y1 / 4
        w, h = (x2 + 1) / 4 - x1, (y2 + 1) / 4 - y1
        for i in range(3):
            for j in range(2):
                rows = span(i * h / 3 + y1, (i + 1) * h / 3 + y1, 10)
                columns = span(j * w / 2 + x1, (j + 1) * w / 2 + x1, 12)
                cells = [(y, x) for y in rows for x in columns]
                for c in range(2 if cells else 0):
                    plane = features[int(image), c]
                    y, x = max(cells, key=lambda cell: plane[cell].item())
                    expected[n, c, i, j] = plane[y, x]
                    expected_grad[int(image), c, y, x] += grad[n, c, i, j]
    assert torch.equal(pooled, expected)
    assert torch.allclose(features.grad, expected_grad)


def span(start: float, stop: float, cells: int) -> range:
    from math import ceil, floor

    return range(*(min(max(i, 0), cells) for i in (floor(start), ceil(stop))))


def test_deform_roi_pool():
    """Without offsets it is RoIAlign; gradients by finite differences."""
    features = torch.rand(2, 3, 10, 12, dtype=torch.double)
    regions = rois(3).double()
    none = features.new_empty(0)
    for sampling in (0, 2):
        actual = mmcv.ops.deform_roi_pool(
            features, regions, none, (3, 2), 0.25, sampling
        )
        expected = mmcv.ops.roi_align(
            features, regions, (3, 2), 0.25, sampling
        )
        assert torch.allclose(actual, expected)
    offset = torch.rand(3, 2, 3, 2, dtype=torch.double)
    assert gradcheck(
        lambda x, o: mmcv.ops.deform_roi_pool(x, regions, o, (3, 2), 0.25, 2),
        (features.requires_grad_(), offset.requires_grad_()),
        atol=1e-4,
    )


@pytest.mark.parametrize('operator', ['carafe', 'carafe_naive'])
def test_carafe(operator):
    """Against a weighted sum of unfolded neighbourhoods."""
    function = getattr(mmcv.ops, operator)
    features = torch.rand(2, 4, 5, 6, dtype=torch.double)
    masks = torch.rand(2, 2 * 9, 10, 12, dtype=torch.double)
    actual = function(features, masks, 3, 2, 2)
    around = torch.nn.functional.unfold(features, 3, padding=1)
    around = around.view(2, 2, 2, 9, 5, 6)  # image, group, channel, cell
    around = around.repeat_interleave(2, -2).repeat_interleave(2, -1)
    kernels = masks.view(2, 2, 1, 9, 10, 12)
    assert torch.allclose(actual, (around * kernels).sum(3).flatten(1, 2))
    small = features[:1, :, :2, :2].clone().requires_grad_()
    few = masks[:1, :, :4, :4].clone().requires_grad_()
    if operator == 'carafe':  # mmcv runs the other's backward on a GPU only
        assert gradcheck(lambda *x: function(*x, 3, 2, 2), (small, few))


def test_masked_convolution():
    conv = mmcv.ops.MaskedConv2d(3, 4, 3, padding=1)
    image = torch.rand(1, 3, 7, 9)
    mask = torch.rand(1, 7, 9) > 0.5
    with torch.no_grad():
        expected = conv(image) * mask
        assert torch.allclose(conv(image, mask), expected, atol=1e-6)


@pytest.mark.parametrize('weighted', [False, True])
def test_focal_losses(weighted):
    """Values by the definition, gradients by autograd through it."""
    logits = torch.randn(7, 5, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 4, 5, 5])  # 5: background
    weight = torch.rand(5) if weighted else None
    factor = torch.ones(7, 1)
    if weighted:
        factor[:5, 0] = weight
    truth = torch.nn.functional.one_hot(target, 6)[:, :5]
    p = logits.sigmoid()
    p_true = torch.where(truth == 1, p, 1 - p)
    alpha = torch.where(truth == 1, 0.25, 0.75)
    expected = -alpha * (1 - p_true).pow(2) * p_true.log() * factor
    actual = mmcv.ops.sigmoid_focal_loss(
        logits, target, 2.0, 0.25, weight, 'none'
    )
    assert torch.allclose(actual, expected, atol=1e-6)
    assert_same_gradient(actual, expected, logits)

    known = target[:5]
    p = logits[:5].softmax(dim=1).gather(1, known[:, None])[:, 0]
    expected = -0.25 * (1 - p).pow(2) * p.log() * factor[:5, 0]
    actual = mmcv.ops.softmax_focal_loss(
        logits[:5], known, 2.0, 0.25, weight, 'sum'
    )
    assert torch.allclose(actual, expected.sum(), atol=1e-6)
    assert_same_gradient(actual, expected, logits)


def assert_same_gradient(actual, expected, leaf):
    gradients = [
        torch.autograd.grad(x.sum(), leaf, retain_graph=True)[0]
        for x in (actual, expected)
    ]
    assert torch.allclose(*gradients, atol=1e-6)


def test_psa_mask():
    """Each cell's relative map, moved to the cells it speaks of."""
    x = torch.rand(1, 3 * 5, 4, 4)
    for kind in ('collect', 'distribute'):
        y = mmcv.ops.PSAMask(kind, (3, 5))(x)
        expected = torch.zeros(1, 16, 4, 4)
        for h in range(4):
            for w in range(4):
                for i in range(3):
                    for j in range(5):
                        a, b = h + i - 1, w + j - 2
                        if not (0 <= a < 4 and 0 <= b < 4):
                            continue
                        value = x[0, i * 5 + j, h, w]
                        if kind == 'collect':
                            expected[0, a * 4 + b, h, w] = value
                        else:
                            expected[0, h * 4 + w, a, b] = value
        assert torch.equal(y, expected)
    y = torch.zeros(1, 15, 4, 4, requires_grad=True)
    mask = mmcv.ops.PSAMask('collect', (3, 5))
    assert (
        torch.autograd.functional.jacobian(lambda v: mask(v).sum(), y) <= 1
    ).all()


def test_offsets_of_another_size():
    """The operator reads the first values, as mmdet's DyHead has it."""
    conv = mmcv.ops.ModulatedDeformConv2d(2, 3, 3, padding=1)
    x = torch.rand(2, 2, 4, 4)
    offset = torch.rand(2, 18, 8, 8, requires_grad=True)
    mask = torch.rand(2, 9, 8, 8)
    first = offset.flatten(1)[:, : 18 * 16].reshape(2, 18, 4, 4)
    expected = conv(x, first, mask.flatten(1)[:, : 9 * 16].reshape(2, 9, 4, 4))
    actual = conv(x, offset, mask)
    assert torch.equal(actual, expected)
    assert_same_gradient(actual, expected, offset)
    with pytest.raises(ValueError, match='of size'):
        conv(x, offset[..., :1], mask)


@pytest.mark.skipif(
    not hasattr(torch.ops.torchvision, 'box_iou_rotated'),
    reason='this torchvision has no rotated boxes',
)
def test_rotated_boxes():
    """A square turned by 45 degrees, and a rectangle by 90."""
    turn = torch.pi / 4
    square = torch.tensor([[5, 5, 2, 2, 0.0], [5, 5, 2, 2, turn]])
    inter = 8 * (2**0.5 - 1)  # a regular octagon
    iou = mmcv.ops.box_iou_rotated(square[:1], square[1:])
    assert iou.item() == pytest.approx(inter / (8 - inter), abs=1e-5)
    iof = mmcv.ops.box_iou_rotated(square[:1], square[1:], 'iof', True)
    assert iof.item() == pytest.approx(inter / 4, abs=1e-5)
    # A thin box along the diagonal that goes right and down.
    long = torch.tensor([[3, 3, 6, 1, turn], [5, 5, 6, 1, turn]])
    clockwise = mmcv.ops.box_iou_rotated(long[:1], long[1:])
    other = mmcv.ops.box_iou_rotated(long[:1], long[1:], clockwise=False)
    assert clockwise > 0.3 > other
    scores = torch.tensor([0.8, 0.9])
    _, keep = mmcv.ops.nms_rotated(long, scores, 0.3)
    assert keep.tolist() == [1]
    labels = torch.tensor([0.0, 1.0])
    _, keep = mmcv.ops.nms_rotated(long, scores, 0.3, labels)
    assert keep.tolist() == [1, 0]


def test_threads_change_no_bit():
    """RoIAlign in parts, where there is enough of it."""
    features = torch.rand(2, 16, 40, 40)
    regions = rois(200)
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        x = features.clone().requires_grad_()
        pooled = mmcv.ops.roi_align(x, regions, 7, 0.5)
        assert pooled.numel() >= 2**17
        pooled.backward(pooled.detach())
        results.append((pooled, x.grad))
    torch.set_num_threads(before)
    for one, three in zip(*results):
        assert torch.equal(one, three)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('samples', [0, 3])
def test_gradient_of_odd_regions(samples, aligned):
    """Check regions without size, outside, too large, on the edge."""
    torch.manual_seed(0)
    regions = torch.tensor(
        [
            [0, 5.0, 5, 5, 5],
            [1, -90, -90, -50, -50],
            [1, 3.3, 2, 300, 40],
            [0, 60, 60, 64, 64],
        ]
    )
    x = torch.randn(2, 3, 16, 17, requires_grad=True)
    pooled = mmcv.ops.roi_align(
        x, regions, (4, 5), 0.25, samples, 'avg', aligned
    )
    grad = torch.randn_like(pooled)
    pooled.backward(grad)
    expected = torch.ops.torchvision._roi_align_backward(
        *(grad, regions, 0.25, 4, 5, 2, 3, 16, 17, samples, aligned)
    )
    assert torch.equal(x.grad, expected)
