"""mmcv's operators against outputs of the compiled ones, and at the edges.

Whatever computes mmcv.ops here is tested: our operators where mmcv was not
compiled, else the compiled ones.
"""

from pathlib import Path

import mmcv.ops
import numpy as np
import pytest
import torch

pytestmark = pytest.mark.smoke

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden' / 'mmcv_ops.npz'


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')


@pytest.fixture(
    scope='module', params=['cpu', pytest.param('cuda', marks=GPU)]
)
def cases(request):
    """Golden cases: name to dict of tensors and numbers."""
    result: dict[str, dict] = {}
    with np.load(GOLDEN) as file:
        for key in file.files:
            name, _, field = key.partition('.')
            value = file[key]
            if field:
                result.setdefault(name, {})[field] = (
                    torch.from_numpy(value).to(request.param)
                    if value.ndim
                    else value.item()
                )
    return result


def names(kind: str) -> list[str]:
    with np.load(GOLDEN) as file:
        found = {key.split('.')[0] for key in file.files}
    return sorted(name for name in found if name.rstrip('0123456789') == kind)


def assert_near(actual, expected):
    assert actual.shape == expected.shape
    if expected.numel():
        scale = expected.abs().max().clamp(min=1e-30)
        assert (actual - expected).abs().max() <= 1e-5 * scale


def assert_same(actual, expected):
    """Compare to the last bit on a CPU, where the cases were made."""
    if expected.is_cuda:
        assert_near(actual, expected)
    else:
        assert torch.equal(actual, expected)


@pytest.mark.parametrize('name', names('nms'))
def test_nms(cases, name):
    case = cases[name]
    dets, keep = mmcv.ops.nms(
        case['boxes'],
        case['scores'],
        case['iou_threshold'],
        offset=case['offset'],
        score_threshold=case['score_threshold'],
        max_num=case['max_num'],
    )
    if case['ties']:  # the order of equal scores depends on the CPU
        assert_greedy(case, keep)
    else:
        assert torch.equal(keep, case['keep'])
        assert_same(dets, case['dets'])


def assert_greedy(case, keep):
    """Each box is kept, or suppressed by a kept one of no lower score."""
    boxes, scores = case['boxes'], case['scores']
    overlaps = mmcv.ops.bbox_overlaps(boxes, boxes) > case['iou_threshold']
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[keep] = True
    assert not overlaps[kept][:, kept].fill_diagonal_(False).any()
    better = scores[None] >= scores[:, None]
    assert (overlaps & better)[~kept][:, kept].any(dim=1).all()
    assert (scores[keep].diff() <= 0).all()


@pytest.mark.parametrize('name', names('soft_nms'))
def test_soft_nms(cases, name):
    case = dict(cases[name])
    expected, kept = case.pop('dets'), case.pop('keep')
    dets, keep = mmcv.ops.soft_nms(**case)
    assert torch.equal(keep, kept)
    assert_near(dets, expected)


@pytest.mark.parametrize('name', names('batched_nms'))
def test_batched_nms(cases, name):
    case = cases[name]
    dets, keep = mmcv.ops.batched_nms(
        case['boxes'],
        case['scores'],
        case['idxs'],
        dict(type='nms', iou_threshold=case['iou_threshold']),
        class_agnostic=case['class_agnostic'],
    )
    assert torch.equal(keep, case['keep'])
    assert_same(dets, case['dets'])


def test_nms_match(cases):
    case = cases['nms_match']
    groups = mmcv.ops.nms_match(case['dets'], case['iou_threshold'])
    assert [group[0].item() for group in groups] == case['first'].tolist()
    assert [len(group) for group in groups] == case['size'].tolist()
    everything = torch.cat(groups).sort()[0]
    assert everything.tolist() == list(range(len(case['dets'])))


@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('name', names('roi_align') + ['roi_align_max'])
def test_roi_align(cases, name, layout):
    if layout == 'channels_last' and mmsmt_serves() is False:
        pytest.skip("mmcv's compiled operator reads memory as NCHW")
    case = cases[name]
    features = case['input'].clone()
    if layout == 'channels_last':
        features = features.to(memory_format=torch.channels_last)
    features.requires_grad_()
    size = case['output_size']
    output = mmcv.ops.roi_align(
        features,
        case['rois'],
        size if isinstance(size, int) else tuple(size.tolist()),
        case['spatial_scale'],
        case['sampling_ratio'],
        'max' if name == 'roi_align_max' else 'avg',
        case['aligned'],
    )
    output.backward(case['grad_output'])
    assert_same(output, case['output'])
    assert_same(features.grad, case['grad_input'])


def mmsmt_serves() -> bool:
    from mmsmt.ops import operators_in_use

    return operators_in_use() == 'torchvision'


@pytest.mark.parametrize(
    'name', names('deform_conv2d') + names('modulated_deform_conv2d')
)
def test_deform_conv(cases, name):
    case = cases[name]
    modulated = name.startswith('modulated')
    fields = ['input', 'offset', 'weight']
    if modulated:
        fields = ['input', 'offset', 'mask', 'weight', 'bias']
    tensors = [case[field].clone().requires_grad_() for field in fields]
    geometry = [
        case[field]
        for field in (
            *('stride', 'padding', 'dilation', 'groups', 'deform_groups'),
        )
    ]
    function = (
        mmcv.ops.modulated_deform_conv2d
        if modulated
        else mmcv.ops.deform_conv2d
    )
    output = function(*tensors, *geometry)
    output.backward(case['grad_output'])
    assert_near(output, case['output'])
    for field, tensor in zip(fields, tensors):
        assert_near(tensor.grad, case[f'grad_{field}'])


def test_ms_deform_attn(cases):
    """The operator itself, which on a CPU mmcv does not call."""
    if not mmsmt_serves():
        pytest.skip("mmcv's compiled operator has no CPU form")
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
    )

    case = cases['ms_deform_attn']
    tensors = [
        case[field].clone().requires_grad_()
        for field in ('value', 'sampling_locations', 'attention_weights')
    ]
    output = MultiScaleDeformableAttnFunction.apply(
        tensors[0], case['spatial_shapes'], None, *tensors[1:], 64
    )
    output.backward(case['grad_output'])
    assert_near(output, case['output'])
    for name, tensor in zip(('value', 'locations', 'weights'), tensors):
        assert_near(tensor.grad, case[f'grad_{name}'])
