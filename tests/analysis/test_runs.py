"""Reading of runs, for the paper's tables."""

import json
import re

import pytest
from mmengine.config import Config
from support.tables import part, start

from mmsmt.analysis import tables
from mmsmt.analysis.runs import COCO, forget_later, read_run
from mmsmt.analysis.tables import read_row, score_lines
from mmsmt.report.runs import read_run_log

MASK_RCNN = Config(dict(train_cfg=dict(max_epochs=3)))
UPERNET = Config(dict(train_cfg=dict(max_iters=200)))


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
