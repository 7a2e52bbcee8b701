"""Counting, the paper's tables, the reading of runs, and the tool."""

import importlib.util
import json
import re
from decimal import Decimal

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn.utils.flops_counter import get_model_complexity_info
from mmengine.config import Config
from support.plain_smt import PlainSMT
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmsmt import SMT
from mmsmt.analysis import complexity, models, tables
from mmsmt.analysis.complexity import count, count_complexity
from mmsmt.analysis.paper import PARTS, Part, Row
from mmsmt.analysis.runs import COCO, forget_later, read_run
from mmsmt.analysis.tables import read_row, score_lines
from mmsmt.report.runs import read_run_log

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


def part(title: str) -> Part:
    return next(p for p in PARTS if p.title.startswith(title))


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


# Runs ------------------------------------------------------------------------

MASK_RCNN = Config(dict(train_cfg=dict(max_epochs=3)))
UPERNET = Config(dict(train_cfg=dict(max_iters=200)))


def start(work_dir, name, lines, config='model = dict()'):
    """One start of a run, as mmengine leaves it."""
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'config.py').write_text(config)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text)
    return folder / 'scalars.json'


def train(step):
    return {'loss': 1.0, 'epoch': 1, 'iter': step, 'step': step}


def val(step, box):
    return {'coco/bbox_mAP': box, 'coco/bbox_mAP_s': -1.0, 'step': step}


def test_finished_run(tmp_path):
    config = (
        "model = dict(backbone=dict(arch='small'))\n"
        "train_dataloader = dict(dataset=dict(data_root='data/coco/'))\n"
    )
    lines = [train(7), val(1, 0.3), val(2, 0.5), train(9), val(3, 0.42)]
    start(tmp_path, '20240101_000000', lines, config)
    run = read_run(tmp_path, MASK_RCNN)
    assert run.finished and (run.unit, run.total) == ('epoch', 3)
    best = run.best('coco/bbox_mAP')
    assert best.step == 2 and best.values == {'coco/bbox_mAP': 50.0}
    assert run.scores[-1].values['coco/bbox_mAP'] == pytest.approx(42)
    assert (run.arch, run.data_root) == ('small', 'data/coco/')


def test_resumed_run(tmp_path):
    """Epoch 2 was lost and validated again; a line was cut short."""
    log = start(tmp_path, '20240101_000000', [val(1, 0.3), val(2, 0.9)])
    log.write_text(log.read_text() + '{"coco/bbox_mAP": 0.99, "st')
    run = read_run(tmp_path, MASK_RCNN)
    assert not run.finished and run.scores[-1].step == 2
    start(tmp_path, '20240102_000000', [val(2, 0.4), val(3, 0.5)])
    run = read_run(tmp_path, MASK_RCNN)
    assert run.finished
    values = [s.values['coco/bbox_mAP'] for s in run.scores]
    assert values == pytest.approx([30, 40, 50])


def test_a_run_that_began_anew(tmp_path):
    """In the folder of an earlier one, which it does not go on with."""
    config = 'resume = False; train_cfg = dict(max_epochs=3)'
    lines = [train(50), val(1, 0.3), dict(train(100), epoch=2), val(2, 0.9)]
    log = start(tmp_path, '20240101_000000', lines, config)
    record(log, train='1', val='1')
    log = start(
        *(tmp_path, '20240102_000000', [train(50), val(1, 0.4)]),
        config,
    )
    record(log, **COCO)
    run = read_run(tmp_path, MASK_RCNN)
    assert [s.step for s in run.scores] == [1] and run.coco is True
    assert run.best('coco/bbox_mAP').values == {'coco/bbox_mAP': 40.0}
    found = read_run_log(tmp_path)
    assert [line['iter'] for line in found.training] == [50]
    assert [line['step'] for line in found.scores] == [1]
    # Iterations are no epochs.
    scores = {16000: {}, 32000: {}}
    resumed = [dict(train(16050), epoch=13)]
    forget_later(resumed, {}, scores, 'iter')
    assert sorted(scores) == [16000]


def test_a_run_by_another_recipe(tmp_path):
    """A score of 24 epochs is none of 12."""
    recipe = Config(
        dict(
            train_cfg=dict(max_epochs=12),
            optim_wrapper=dict(optimizer=dict(lr=1e-4)),
            train_dataloader=dict(batch_size=2),
            auto_scale_lr=dict(base_batch_size=16),
        )
    )
    ran = Config(recipe.to_dict())
    log = start(
        *(tmp_path, '20240101_000000', [train(7), val(12, 0.4)]),
        ran.pretty_text,
    )
    (log.parent.parent / 'run.json').write_text('{"processes": 8}')
    assert read_run(tmp_path, recipe).deviations == ()
    ran.train_cfg.max_epochs = 24
    ran.optim_wrapper.optimizer.lr = 2e-4
    ran.optim_wrapper.accumulative_counts = 2
    log = start(
        *(tmp_path, '20240102_000000', [train(7), val(24, 0.5)]),
        ran.pretty_text,
    )
    (log.parent.parent / 'run.json').write_text('{"processes": 8}')
    run = read_run(tmp_path, recipe)
    assert run.deviations == (
        '24 epochs, not 12',
        'a learning rate of 0.0002, not 0.0001',
        '32 images a step, not 16',
    )
    assert tables.describe_state(run) == 'finished, by another recipe'


def test_no_run_and_one_that_was_not_validated(tmp_path):
    assert read_run(tmp_path / 'nowhere', MASK_RCNN) is None
    # tools/test.py alone leaves a folder too, and validation step 0.
    start(tmp_path / 'a', '20240101_000000', [val(0, 0.5)])
    assert read_run(tmp_path / 'a', MASK_RCNN).scores == ()
    start(tmp_path / 'b', '20240101_000000', [train(7)], config='model = di(')
    run = read_run(tmp_path / 'b', MASK_RCNN)
    assert run.scores == () and not run.finished and run.best('x') is None


def test_multi_scale_test_is_told_apart(tmp_path):
    start(tmp_path, '20240101_000000', [{'mIoU': 40.5, 'step': 200}])

    def tested(name, miou, config):
        start(tmp_path, name, [], config)
        (tmp_path / name / 'vis_data' / 'scalars.json').unlink()
        result = json.dumps({'mIoU': miou, 'time': 1.0})
        (tmp_path / name / f'{name}.json').write_text(result)

    tested('20240102_000000', 41.5, 'model = dict(module=dict())')
    tested('20240103_000000', 40.5, "model = dict(type='EncoderDecoder')")
    run = read_run(tmp_path, UPERNET)
    assert run.finished and run.unit == 'iteration'
    assert run.scores[-1].values == {'mIoU': 40.5}
    assert run.tta.values == {'tta/mIoU': 41.5}
    assert run.test.values == {'mIoU': 40.5}


def record(log, **hashes):
    """Write the hashes of a start's annotations."""
    content = {split: dict(sha256=value) for split, value in hashes.items()}
    (log.parent.parent / 'run.json').write_text(
        json.dumps(dict(annotations=content))
    )


def test_coco_is_told_by_its_hash(tmp_path):
    """Both files; a run that recorded none is not known."""
    log = start(tmp_path, '20240101_000000', [val(3, 0.5)])
    assert read_run(tmp_path, MASK_RCNN).coco is None
    record(log, **COCO)
    assert read_run(tmp_path, MASK_RCNN).coco is True
    other = start(tmp_path, '20240101_000001', [val(4, 0.5)])
    assert read_run(tmp_path, MASK_RCNN).coco is None  # resumed, unknown
    record(other, **COCO)
    assert read_run(tmp_path, MASK_RCNN).coco is True
    record(log, **dict(COCO, val='0' * 64))
    assert read_run(tmp_path, MASK_RCNN).coco is False


MISSING = [
    # lines, test, hashes of the run and of the test, what is missing
    ([], None, None, None, ['training: bash tools/dist_train']),
    ([val(30, 0.5)], None, COCO, None, ['epochs 31 to 36: .* --resume']),
    ([val(36, 0.5)], None, COCO, None, []),
    ([val(36, 0.5)], None, None, None, ['the run has no hashes']),
    ([val(36, 0.5)], None, dict(COCO, train='1'), None, ['other annot']),
    ([], 0.4, None, dict(test=COCO['val']), []),
    ([], 0.4, None, dict(test='1'), ['other annotations']),
]


@pytest.mark.parametrize('lines, score, of_run, of_test, expected', MISSING)
def test_missing(tmp_path, lines, score, of_run, of_test, expected):
    """List nothing after a whole run on COCO, or a test on it."""
    retinanet = part('RetinaNet')
    folder = tmp_path / 'retinanet_smt_s_3x'
    if lines:
        log = start(folder, '20240101_000000', lines)
        record(log, **(of_run or {}))
    if score:
        log = start(
            folder, '20240102_000000', [], "load_from = 'a/epoch_36.pth'"
        )
        log.unlink()
        record(log, **of_test)
        result = folder / '20240102_000000' / '20240102_000000.json'
        result.write_text(json.dumps({'coco/bbox_mAP': score}))
    row = next(row for row in retinanet.rows if row.smt == 's')
    entry = read_row(retinanet, row, '3x', 'retinanet_smt_s_3x', tmp_path)
    assert len(entry['missing']) == len(expected)
    for text, pattern in zip(entry['missing'], expected):
        assert re.search(pattern, text)
    if score:
        assert entry['state'] == 'tested only'
        assert entry['test']['checkpoint'] == 'epoch_36.pth'
        assert entry['test']['scores']['AP^b'] == 40.0
        paper = dict(scores={'3x': retinanet.scores(row, '3x')})
        lines = score_lines(dict(backbone='SMT-S', paper=paper), entry)
        text = str(lines)
        assert 'test of epoch_36.pth' in text
        assert ('not on COCO' in text) == bool(expected)


@pytest.mark.parametrize(
    'tested, expected', [(1, ['31 to 36']), (30, ['31 to 36']), (36, [])]
)
def test_an_early_test_ends_no_run(tmp_path, tested, expected):
    """A test of the last epoch does, whose log may be elsewhere."""
    folder = tmp_path / 'retinanet_smt_s_3x'
    record(start(folder, '20240101_000000', [val(30, 0.5)]), **COCO)
    name = '20240102_000000'
    log = start(folder, name, [], f"load_from = 'a/epoch_{tested}.pth'")
    log.unlink()
    (folder / name / f'{name}.json').write_text('{"coco/bbox_mAP": 0.4}')
    retinanet = part('RetinaNet')
    row = next(row for row in retinanet.rows if row.smt == 's')
    entry = read_row(retinanet, row, '3x', 'retinanet_smt_s_3x', tmp_path)
    assert len(entry['missing']) == len(expected)
    assert all(b in a for a, b in zip(entry['missing'], expected))


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
