"""Reports of runs: finished, broken, several, of each task."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from mmsmt.report.classification import analyze_classification
from mmsmt.report.detection import analyze_detection
from mmsmt.report.runs import read_run_log
from mmsmt.report.segmentation import analyze_segmentation
from mmsmt.runs.files import hash_file

pytestmark = pytest.mark.one_stack

SECTIONS = ('run', 'curves', 'errors', 'config')
ODD = '<script>alert(1)</script>&'


def sections(path: Path) -> list[str]:
    return re.findall(r'<section id="(\w+)"', path.read_text())


@pytest.fixture(scope='module')
def run(trained, coco, tmp_path_factory):
    """A copy of a trained work dir and its data, with an odd class name."""
    folder = tmp_path_factory.mktemp('report')
    shutil.copytree(
        trained[0], folder / 'run', ignore=shutil.ignore_patterns('*.pth')
    )
    for start in sorted((folder / 'run').glob('2*'))[1:]:
        shutil.rmtree(start)  # other tests resume it
    shutil.copytree(coco, folder / 'coco')
    for path in (folder / 'coco/annotations').glob('*val*.json'):
        content = json.loads(path.read_text())
        content['categories'][0]['name'] = ODD
        path.write_text(json.dumps(content))
    record_annotations(folder)
    stored = folder / 'run/predictions/val.json'
    content = json.loads(stored.read_text())
    content['classes'][0] = ODD
    stored.write_text(json.dumps(content))
    return folder


def record_annotations(folder: Path) -> None:
    """Write the hash of the validation's annotations, as a run does."""
    for record in (folder / 'run').glob('*/run.json'):
        content = json.loads(record.read_text())
        known = content['annotations']['val']
        path = folder / 'coco/annotations' / Path(known['file']).name
        known['sha256'] = hash_file(path)
        record.write_text(json.dumps(content))


def test_a_detector(run, tool_of):
    status, output = tool_of(
        'report', run / 'run', '--data-root', run / 'coco'
    )
    assert status == 0
    page = run / 'run/report.html'
    assert f'Report: {page}' in output
    text = page.read_text()
    assert sections(page) == list(SECTIONS)
    assert ODD not in text and html.escape(ODD) in text
    for words in (
        'tools/train.py',
        'Progress',
        '1 of 1 epochs',
        'coco/bbox_mAP',
        'Precision and recall at IoU 0.5',
        'Objects by size',
        'The worst images',
        'data:image/jpeg;base64,',
        'train_cfg.max_epochs',  # set on the command line
    ):
        assert words in text, words
    markup = re.sub('<script.*?</script>', '', text, flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!data:|#)', markup)
    assert len(text) < 15e6


def test_annotations_that_changed(run, tool_of):
    """Predictions of images before are not compared with them."""
    (record,) = (run / 'run').glob('*/run.json')
    known = json.loads(record.read_text())['annotations']['val']
    path = run / 'coco/annotations' / Path(known['file']).name
    before = path.read_text()
    path.write_text(before + ' ')
    status, _ = tool_of('report', run / 'run', '--data-root', run / 'coco')
    path.write_text(before)
    text = (run / 'run/report.html').read_text()
    assert status == 0 and 'has changed since the run' in text
    assert 'Objects by size' not in text


@pytest.mark.skipif(not shutil.which('chromium'), reason='no chromium')
def test_in_a_browser(run, tool_of, tmp_path):
    page = tmp_path / 'page.html'
    work_dirs = [run / 'run', run / 'run']
    tool_of('report', *work_dirs, '--data-root', run / 'coco', '--out', page)
    assert sections(page) == ['run', 'curves', 'errors1', 'errors2', 'config']
    result = subprocess.run(
        ['chromium', '--headless', '--no-sandbox', '--disable-gpu']
        + ['--enable-logging=stderr', '--virtual-time-budget=5000']
        + [f'--user-data-dir={tmp_path / "profile"}', '--dump-dom']
        + [page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'CONSOLE' not in result.stderr
    assert result.stdout.count('class="main-svg"') >= 8  # drawn charts
    assert '<script>alert' not in result.stdout


def test_a_broken_run(run, tmp_path, tool_of):
    """Without predictions, and with logs that are cut off."""
    work_dir = shutil.copytree(run / 'run', tmp_path / 'broken')
    shutil.rmtree(work_dir / 'predictions')
    (log,) = work_dir.glob('*/vis_data/scalars.json')
    log.write_text(log.read_text().splitlines()[0] + '\n{"loss": 1')
    (info,) = work_dir.glob('*/run.json')
    info.unlink()
    status, _ = tool_of('report', work_dir)
    text = (work_dir / 'report.html').read_text()
    assert status == 0 and 'No predictions are stored' in text
    assert 'broken is not finished: epoch 0 of 1' in text
    assert sections(work_dir / 'report.html') == list(SECTIONS)
    log.unlink()
    status, _ = tool_of('report', work_dir)
    assert status == 0
    assert (
        'No iteration is logged yet' in (work_dir / 'report.html').read_text()
    )
    for folder, words in {
        tmp_path / 'none': 'There is no folder',
        tmp_path: 'holds no run',
    }.items():
        status, output = tool_of('report', folder)
        assert status == 1 and words in output


# Objects of an image: class and box.
TRUTH = {
    1: [(1, 0), (1, 100), (2, 200), (1, 300), (2, 400)],
    2: [],
}
# Detections: class, place, score, and the error.
FOUND = {
    1: [
        (1, 2, 0.9, ''),
        (1, 3, 0.8, 'duplicate'),
        (2, 101, 0.7, 'class'),
        (2, 214, 0.6, 'place'),
        (2, 314, 0.5, 'both'),
        (1, 600, 0.4, 'background'),
        (1, 620, 0.2, None),  # not shown
    ],
    2: [(2, 5, 0.95, 'background')],
}


@pytest.fixture
def known(tmp_path):
    """Detections whose errors are known."""
    notes, results = [], []
    for image, objects in TRUTH.items():
        for label, x in objects:
            notes.append(
                dict(
                    id=len(notes) + 1,
                    image_id=image,
                    category_id=label,
                    bbox=[x, 10, 20, 20],
                    area=400,
                    iscrowd=0,
                )
            )
        for label, x, score, _ in FOUND[image]:
            results.append(
                dict(
                    image_id=image,
                    category_id=label,
                    bbox=[x, 10, 20, 20],
                    score=score,
                )
            )
    content = dict(
        images=[
            dict(id=i, file_name=f'{i}.png', width=700, height=50)
            for i in TRUTH
        ],
        annotations=notes,
        categories=[dict(id=1, name='a'), dict(id=2, name='b')],
    )
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    (tmp_path / 'found.json').write_text(json.dumps(results))
    Image.new('RGB', (700, 50)).save(tmp_path / '1.png')
    return tmp_path


def test_errors_of_a_detector(known, monkeypatch):
    monkeypatch.setattr('mmsmt.report.detection.FEW', 0)  # with processes
    found = analyze_detection(
        known / 'truth.json', known / 'found.json', known
    )
    kinds = [kind for part in FOUND.values() for *_, kind in part if kind]
    assert found.errors == {
        'missed': 1,  # the one at 400
        **{kind: kinds.count(kind) for kind in sorted(set(kinds))},
    }
    by_name = {Path(x.file).name: x for x in found.images}
    assert [kind for *_, kind in by_name['1.png'].found] == [
        kind for *_, kind in FOUND[1] if kind is not None
    ]
    assert by_name['2.png'].quality == 0
    assert by_name['1.png'].quality == 1 / (5 + 6 - 1)
    # Rows: truth a, b, background; columns: prediction a, b, missed.
    assert found.confusion.tolist() == [[1, 1, 1], [0, 0, 2], [2, 3, 0]]
    assert sum(point['count'] for point in found.calibration) == 8
    assert found.calibration[-1] == dict(
        score=pytest.approx(0.925), precision=0.5, count=2
    )
    rows = {row['name']: row for row in found.table}
    # One of three objects at a recall of a third, with precision 1.
    assert rows['a']['ap50'] == pytest.approx(34 / 101)
    assert rows['b']['ap50'] == 0 and rows['a']['objects'] == 3
    assert [row['objects'] for row in found.sizes] == [5, 5, 0, 0]
    # A model of one class: others' objects are no misses, as in its metric.
    kept = [x for x in json.loads((known / 'found.json').read_text())]
    kept = [x for x in kept if x['category_id'] == 1]
    (known / 'one.json').write_text(json.dumps(kept))
    one = analyze_detection(
        known / 'truth.json', known / 'one.json', known, ['a']
    )
    assert one.classes == ['a'] and one.confusion.shape == (2, 2)
    assert one.sizes[0]['objects'] == 3
    assert one.sizes[0]['ap'] == pytest.approx(one.table[0]['ap'])
    (known / 'found.json').write_text('[]')
    nothing = analyze_detection(
        known / 'truth.json', known / 'found.json', known
    )
    assert nothing.errors['missed'] == 5 and nothing.calibration == []


def test_facts_are_of_the_training(tmp_path):
    """Not of a test after it; and an epoch that has begun is not over."""
    config = 'train_cfg = dict(max_epochs=3)'
    infos = [
        dict(images=80, processes=8, annotations=dict(val=dict(sha256='a'))),
        dict(processes=2, annotations=dict(test=dict(sha256='b'))),
    ]
    for number, info in enumerate(infos):
        start = tmp_path / f'2024010{number}_000000'
        (start / 'vis_data').mkdir(parents=True)
        (start / 'vis_data/config.py').write_text(config)
        (start / 'run.json').write_text(json.dumps(info))
    lines = [dict(loss=1.0, iter=i, epoch=3, step=i) for i in (21, 25)]
    lines.append(dict(lines[0], iter=26, step=26, loss=float('nan')))
    (tmp_path / '20240100_000000/vis_data/scalars.json').write_text(
        '\n'.join(map(json.dumps, lines))
    )
    run = read_run_log(tmp_path)
    assert run.info['processes'] == 8 and run.info['images'] == 80
    assert sorted(run.info['annotations']) == ['test', 'val']
    assert run.reached == 2
    assert not run.scores and len(run.training) == 3


def test_sums_of_a_segmenter():
    records = [
        dict(file='1', iou=0.5, pairs=[(0, 0, 60), (0, 1, 20), (1, 1, 20)]),
        dict(file='2', iou=0.2, pairs=[(2, 0, 40)]),
    ]
    found = analyze_segmentation(records, ['a', 'b', 'c', 'd'])
    assert [row['iou'] for row in found.table] == [0.5, 0.5, 0.0, None]
    assert [row['accuracy'] for row in found.table] == [0.75, 1.0, 0.0, None]
    assert found.confusion[0].tolist() == [0.75, 0.25, 0, 0]
    assert [image['file'] for image in found.images] == ['2', '1']


def test_sums_of_a_classifier():
    def record(truth, guess, score):
        return dict(file='', truth=[truth], labels=[guess], scores=[score])

    records = [record(0, 0, 0.9), record(0, 1, 0.6), record(1, 0, 0.8)]
    found = analyze_classification(records, ['a', 'b', 'c'])
    assert [row['accuracy'] for row in found.table] == [0.5, 0.0, None]
    assert found.confusion.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert [x['scores'][0] for x in found.wrong] == [0.8, 0.6]
