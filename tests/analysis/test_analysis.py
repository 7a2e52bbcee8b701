"""Counting, the paper's tables, the reading of runs, and the tool."""

import importlib.util
import json
import re
from decimal import Decimal

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.utils.flops_counter import get_model_complexity_info
from support.plain_smt import PlainSMT
from support.tables import part, start
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmsmt import SMT
from mmsmt.analysis import complexity, models
from mmsmt.analysis.complexity import count, count_complexity
from mmsmt.analysis.paper import PARTS, Part, Row

# Counting --------------------------------------------------------------------


def test_hand_computed_layers():
    def macs(layer, *size):
        return count(lambda: layer(torch.rand(size)))

    # Output elements times weights that each of them takes.
    assert macs(nn.Conv2d(4, 6, 3, padding=1), 2, 4, 5, 7) == (
        2 * 6 * 5 * 7 * 4 * 9
    )
    assert macs(nn.Conv2d(8, 8, 3, stride=2, groups=8), 1, 8, 9, 9) == (
        8 * 4 * 4 * 9
    )
    # A transposed convolution uses each weight once per input element.
    assert macs(nn.ConvTranspose2d(4, 6, 2, stride=2), 1, 4, 5, 7) == (
        4 * 5 * 7 * 6 * 4
    )
    assert macs(nn.Linear(5, 3), 2, 7, 5) == 2 * 7 * 5 * 3
    assert macs(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), 1, 4, 5, 5) == 0


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_hand_computed_attention(device):
    """Also as the CPU's own kernel, which torch's counter does not know."""
    q = torch.rand(2, 3, 10, 8, device=device)
    k = torch.rand(2, 3, 12, 8, device=device)
    v = torch.rand(2, 3, 12, 8, device=device)
    assert count(lambda: F.scaled_dot_product_attention(q, k, v)) == (
        2 * 3 * 10 * 12 * (8 + 8)
    )
    assert count(lambda: q @ k.transpose(2, 3)) == 2 * 3 * 10 * 12 * 8


@pytest.mark.parametrize('size', [(64, 64), (69, 95)])
def test_smt_against_the_plain_form(size):
    """Torch's counter and mmcv's, on an SMT written with modules only."""
    plain = PlainSMT.of(SMT.ARCHS['tiny']).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain(torch.rand(1, 3, *size))
    modules, _ = get_model_complexity_info(
        plain, (3, *size), as_strings=False, print_per_layer_stat=False
    )
    smt = SMT('tiny')
    parameters = sum(p.numel() for p in smt.parameters())
    assert count_complexity(smt, size) == (
        parameters,
        counter.get_total_flops() // 2,
        modules,
    )
    assert {p.device.type for p in smt.parameters()} == {'meta'}


def test_difference_of_the_conventions_is_attention():
    """At 224 x 224: 5 MSA blocks in SMT-T, 4 of 14 x 14 and 1 of 7 x 7."""
    cost = count_complexity(SMT('tiny'), (224, 224))
    attention = 2 * (4 * 196**2 * 256 + 49**2 * 512)
    # What mmcv counts besides products, about half a per cent.
    others = cost.paper_style - (cost.macs - attention)
    assert 0 < others < 0.01 * cost.macs


def row(title: str, backbone: str) -> tuple[Part, Row]:
    found = part(title)
    return found, next(r for r in found.rows if r.backbone == backbone)


def test_proposals_by_hand(monkeypatch):
    """1000 for the box head, 100 for the mask head."""

    def macs(boxes, masks):
        monkeypatch.setattr(complexity, 'BOX_PROPOSALS', boxes)
        monkeypatch.setattr(complexity, 'MASK_PROPOSALS', masks)
        model = models.build_smt(*row('Mask R-CNN', 'SMT-S'))
        return count_complexity(model, (128, 128)).macs

    both = macs(complexity.BOX_PROPOSALS, complexity.MASK_PROPOSALS)
    assert both - macs(1, 100) == 999 * (
        256 * 49 * 1024 + 1024 * 1024 + 1024 * (81 + 4 * 80)
    )
    assert macs(1000, 100) - macs(1000, 1) == 99 * (
        196 * 4 * 256 * 256 * 9 + 196 * 256 * 256 * 4 + 784 * 256 * 80
    )


@pytest.mark.one_stack
def test_dino_against_the_whole_model():
    """The backbone apart and no sampling: the products are the same."""
    from mmdet.structures import DetDataSample

    size = (256, 256)  # enough places for its 900 queries
    place = row('DINO', 'SMT-S')
    model = models.build_smt(*place).eval().requires_grad_(False)
    sample = DetDataSample(
        metainfo=dict(img_shape=size, batch_input_shape=size)
    )
    image = torch.rand(1, 3, *size)
    whole = count(lambda: model(image, [sample], mode='tensor'))
    assert count_complexity(models.build_smt(*place), size).macs == whole


# The paper's cells -----------------------------------------------------------


@pytest.mark.parametrize(
    'title, backbone, arch',
    [
        ('Mask R-CNN', 'SMT-S', 'small-paper'),
        ('Mask R-CNN', 'SMT-B', None),
        ('Cascade', 'SMT-S', 'small-paper'),
        ('RetinaNet', 'SMT-S', 'small-paper'),
        ('Sparse R-CNN', 'SMT-S', 'small-paper'),
        ('ATSS', 'SMT-S', 'small-paper'),
        ('UperNet', 'SMT-B', None),
        ('ImageNet-1K classification', 'SMT-T', None),
        ('ImageNet-1K classification', 'SMT-S', 'small-paper'),
        ('ImageNet-1K classification', 'SMT-B', None),
    ],
)
def test_reproduced_cells(title, backbone, arch):
    """To the last printed digit; FLOPs of whole models to 1 G."""
    place = row(title, backbone)
    cost = count_complexity(models.build_smt(*place, arch), place[1].size)
    check_parameters(cost.parameters, place[1].parameters)
    flops = place[1].flops
    assert abs(cost.paper_style / 1e9 - float(flops)) < last_digit(flops)


def check_parameters(ours: int, paper: Decimal):
    assert abs(ours / 1e6 - float(paper)) < last_digit(paper)


def last_digit(number: Decimal) -> float:
    return 10.0 ** number.as_tuple().exponent


@pytest.mark.one_stack
def test_upernet_s_was_counted_with_19_classes(monkeypatch):
    """As in the release's file for it, where ADE20K has 150."""
    place = row('UperNet', 'SMT-S')
    model = models.build_smt(*place, 'small-paper')
    paper = place[1]
    with pytest.raises(AssertionError):
        check_parameters(
            sum(p.numel() for p in model.parameters()), paper.parameters
        )
    for head in (model.decode_head, model.auxiliary_head):
        head.conv_seg = nn.Conv2d(head.conv_seg.in_channels, 19, 1)
    cost = count_complexity(model, paper.size)
    check_parameters(cost.parameters, paper.parameters)
    assert int(cost.paper_style / 1e9) == paper.flops


@pytest.mark.parametrize(
    'title, backbone',
    [('Mask R-CNN', 'ResNet50'), ('Mask R-CNN', 'Swin-T')],
)
def test_baselines(title, backbone, monkeypatch):
    from mmengine.model import BaseModule

    def no_weights(self):
        raise AssertionError('weights would be fetched')

    monkeypatch.setattr(BaseModule, 'init_weights', no_weights)
    place = row(title, backbone)
    cost = count_complexity(models.build_baseline(*place), place[1].size)
    assert round(cost.paper_style / 1e9) == place[1].flops
    # The paper's ResNet50 is counted without its frozen stages.
    assert abs(cost.parameters / 1e6 - float(place[1].parameters)) < 0.25


def test_baseline_that_no_host_has():
    with pytest.raises(models.NotMeasured, match='not in the hosts'):
        models.build_baseline(*row('Mask R-CNN', 'FocalNet-T'))


def test_tables_are_whole():
    numbers = [p.table for p in PARTS]
    assert sorted(set(numbers)) == [1, 2, 3, 4, 5, 6, 14]
    rows = [r for p in PARTS for r in p.rows]
    assert len(rows) == 136 and sum(r.smt is not None for r in rows) == 19
    for p in PARTS:
        for r in p.rows:
            assert len(r.scores) == len(p.schedules) * len(p.metrics), r
    p, r = row('Mask R-CNN', 'SMT-B')
    assert (r.parameters, r.flops) == (Decimal('51.7'), 328)
    assert p.scores(r, '3x')['AP^m_75'] == Decimal('47.3')
    assert p.configs(r) == ['mask_rcnn_smt_b_1x', 'mask_rcnn_smt_b_3x']
    assert part('ImageNet-1K fine').configs(PARTS[1].rows[-1]) == [
        'smt_l_in1k_ft_384'
    ]


def test_every_row_of_smt_has_its_config(root):
    have = {path.stem for path in (root / 'configs').glob('*.py')}
    for p in PARTS:
        for r in p.rows:
            if r.smt and r.smt != 'm':
                assert set(p.configs(r)) <= have


# The tool --------------------------------------------------------------------


@pytest.mark.one_stack
def test_tool_prints_tables(tool, tmp_path):
    work_dir = tmp_path / 'smt_t_in1k'
    start(work_dir, '20240101_000000', [{'accuracy/top1': 82.0, 'step': 299}])
    status, text = tool(
        'paper_tables.py', '--table', '1', '--work-dirs', tmp_path
    )
    assert status == 0, text
    assert max(map(len, text.splitlines())) <= 110
    cells = r'SMT-S +small-paper +224x224 +20\.5 +20\.44 +4\.7 +4\.68 +4\.83\n'
    assert re.search(cells, text)
    assert 'smt_t_in1k: unfinished: epoch 299 of 300' in text
    assert re.search(r'best, epoch 299 +82\.0\n +difference +-0\.2\n', text)
    assert 'smt_b_in1k: not run' in text and 'Swin-T' not in text


@pytest.mark.one_stack
def test_tool_prints_json(tool, tmp_path, monkeypatch):
    """And says which host is missing, instead of failing."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda name: None if name == 'mmseg' else find_spec(name),
    )
    status, text = tool(
        'paper_tables.py',
        *('--table', 2, 6, '--json', '--work-dirs', tmp_path),
    )
    assert status == 0, text
    document = json.loads(text[text.index('{\n') : text.rindex('}') + 1])
    fine_tuned, segmented = document['tables']
    row = fine_tuned['rows'][-1]
    assert row['paper']['scores']['30 epochs'] == {'top-1': 88.1}
    (large,) = row['measured']
    assert round(large['parameters'] / 1e6, 2) == 80.62
    assert round(large['macs'] / 1e9, 2) == 55.06
    assert segmented['rows'][0]['runs'][0]['state'] == 'needs mmseg'
    small, paper = segmented['rows'][0]['measured']
    assert small['reason'] == paper['reason'] == 'needs mmseg'


def test_tool_refuses(tool, tmp_path):
    status, text = tool('paper_tables.py', '--table', '7')
    assert status == 2 and 'invalid choice: 7' in text
    missing = tmp_path / 'nowhere'
    status, text = tool('paper_tables.py', '--work-dirs', missing)
    assert status == 2 and f"there is no folder '{missing}'" in text
