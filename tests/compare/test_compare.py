"""One command trains, resumes, chooses rates and sums up."""

import json
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from mmengine.config import Config
from PIL import Image

from mmsmt.compare import command, summary, trials
from mmsmt.compare.trials import Point, Trial
from mmsmt.environment import count_cores
from mmsmt.errors import UserError

pytestmark = pytest.mark.one_stack

CONFIG = 'configs/demo/mask_rcnn_smt_t_digits.py'
SMALL = dict(
    embed_dims=(32, 64, 128, 256),
    depths=(1, 1, 1, 1),
    mlp_ratios=(2, 2, 2, 2),
    stem_kernel_size=3,
)
OWN = dict(
    small=dict(type='mmsmt.SMT', arch=SMALL),
    resnet=dict(type='mmdet.ResNet', depth=18, norm_eval=False),
)


@pytest.fixture
def own(tmp_path):
    path = tmp_path / 'own.py'
    path.write_text(f'backbones = {OWN!r}')
    return path


@pytest.mark.slow
def test_runs(tool_of, root, coco, own, tmp_path, fork, monkeypatch):
    """Two backbones; what is done is not done again; other settings."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, 'executable', fork)
    work_dir = tmp_path / 'work'
    line = ['compare', CONFIG, '--work-dir', work_dir, '--add', own]
    line += ['--backbones', *OWN, '--data-root', coco, '--cfg-options']
    line += ['train_dataloader.batch_size=2', 'train_cfg.max_epochs=1']
    line += ['param_scheduler.1.end=1']
    calls = []
    run = trials.run_with_progress

    def count(command, what, *args, **kwargs):
        calls.append(what)
        if what.startswith('resnet') and len(calls) == 2:
            raise KeyboardInterrupt
        run(command, what, *args, **kwargs)

    monkeypatch.setattr(trials, 'run_with_progress', count)
    status, output = tool_of(*line, '--seeds', 5)
    assert status == 1 and 'The same command resumes from here' in output
    status, output = tool_of(*line, '--seeds', 5)
    assert status == 0, output
    assert calls == ['small, seed 5', 'resnet, seed 5', 'resnet, seed 5']
    assert '| small |' in output and '| resnet |' in output
    with Image.open(work_dir / 'curves.png') as picture:
        assert picture.size[0] > 1000
    found = json.loads((work_dir / 'results.json').read_text())
    first, second = found['runs']
    assert (first['name'], second['name']) == ('small', 'resnet')
    for entry in (first, second):
        (point,) = entry['points']
        assert point['images'] == 4 and point['seconds'] > 0
        assert sorted(point['scores']) == [
            'coco/bbox_mAP',
            'coco/bbox_mAP_50',
            'coco/segm_mAP',
        ]
    folder = work_dir / 'small/lr_0.003/seed_5'
    # A pause in one of three iterations does not count.
    (log,) = folder.glob('*/vis_data/scalars.json')
    record = next(x for x in map(json.loads, log.open()) if 'loss' in x)
    with log.open('a') as file:
        for i, seconds in enumerate((1e3, record['time']), start=1001):
            print(json.dumps(dict(record, time=seconds, iter=i)), file=file)
    (point,) = first['points']
    assert trials.read_points(folder)[0].seconds == point['seconds']
    (ran,) = folder.glob('*/vis_data/config.py')
    assert Config.fromfile(ran).randomness.seed == 5

    status, output = tool_of(*line[:-1], 'param_scheduler.1.end=2')
    assert status == 1 and 'is of a comparison with other settings' in output
    status, output = tool_of(*line, '--seeds', 1, 1)
    assert status == 2 and 'a seed is given twice' in output


@pytest.mark.parametrize('jobs', [1, 2])
def test_choice_of_rates(
    tool_of, root, coco, own, tmp_path, monkeypatch, jobs
):
    """The first seed tries all; each backbone goes on with its best."""
    best = dict(small=0.001, resnet=0.01)
    ran = []

    def fake(trial: Trial, options, environ=None, **kwargs):
        ran.append((trial.name, trial.seed, trial.rate))
        threads = max(1, count_cores() // jobs)
        assert (environ or {}).get('OMP_NUM_THREADS') == (
            str(threads) if jobs > 1 else None
        )
        good = trial.rate == best[trial.name]
        value = 0.2 + 0.1 * good + 0.01 * trial.seed
        scores = {'coco/bbox_mAP': value, 'coco/segm_mAP': value / 2}
        trial.points = [
            Point(400, 10.0, dict.fromkeys(scores, 0.01)),
            Point(800, 20.0 + 4 * trial.seed, scores),
        ]

    monkeypatch.setattr(trials, 'run_trial', fake)
    monkeypatch.chdir(root)
    status, output = tool_of(
        *('compare', CONFIG, '--work-dir', tmp_path / 'w', '--add', own),
        *('--backbones', *OWN, '--data-root', coco),
        *('--lr', 0.001, 0.01, '--seeds', 0, 3, '--jobs', jobs),
    )
    assert status == 0, output
    expected = [
        *(('small', 0, rate) for rate in (0.001, 0.01)),
        *(('resnet', 0, rate) for rate in (0.001, 0.01)),
        ('small', 3, 0.001),
        ('resnet', 3, 0.01),
    ]
    if jobs == 1:
        assert ran == expected
    assert sorted(ran) == sorted(expected)
    row = next(ln for ln in output.splitlines() if ln.startswith('| resnet'))
    assert '| 0.01 | 2 | 0.315 ± 0.021 | 0.158 ± 0.011 | 32 (25–40) |' in row
    assert '- resnet, box AP by rate: 0.001: 0.200, 0.01: 0.300' in output
    assert (tmp_path / 'w/results.md').read_text() in output


@pytest.mark.one_stack
def test_seeds_side_by_side(tool_of, root, coco, own, tmp_path, monkeypatch):
    """A job goes on with the next seed; each that is done is in the table."""
    both = threading.Barrier(2, timeout=20)

    def fake(trial: Trial, options, environ=None, **kwargs):
        if trial.seed in (1, 2):
            both.wait()
        if trial.seed == 3:
            rounds.append((tmp_path / 'w/results.md').read_text())
        scores = {'coco/bbox_mAP': 0.1, 'coco/segm_mAP': 0.1}
        trial.points = [Point(400, 10.0, scores)]

    rounds = []
    monkeypatch.setattr(trials, 'run_trial', fake)
    monkeypatch.chdir(root)
    status, output = tool_of(
        *('compare', CONFIG, '--work-dir', tmp_path / 'w', '--add', own),
        *('--backbones', 'small', '--data-root', coco),
        *('--seeds', 0, 1, 2, 3, '--jobs', 2),
    )
    assert status == 0, output
    assert '| 0.003 | 4 | 0.100' in output
    assert '| small |' in rounds[0]  # of the seeds before


def test_percent_and_single_runs(tmp_path):
    """mIoU and top-1 are logged in percent; one run has no spread."""
    trial = Trial('smt-t', tmp_path / 'c.py', 0, 1e-4, tmp_path)
    trial.points = [Point(100, 5.0, {'mIoU': 41.27})]
    text = summary.format_comparison([trial], {'smt-t': 41.3})
    assert '| smt-t | 41.30 M | 0.0001 | 1 | 41.3 | 50 | 0.1 |' in text


def test_a_run_that_diverges(tool_of, root, coco, own, tmp_path, monkeypatch):
    """The others end; the table has them, and says what failed."""

    def fail(command, what, *args, **kwargs):
        rate = float(command[-1].rpartition('=')[2])
        if rate > 0.05 or what.startswith('resnet') and rate > bound:
            raise UserError(f'loss is nan\n\n{what} failed; see LOG')

    scores = {'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_50': 0.5}
    monkeypatch.setattr(trials, 'run_with_progress', fail)
    done = set()

    def read(folder):
        found = [Point(400, 10.0, scores)] if folder in done else []
        done.add(folder)
        return found

    monkeypatch.setattr(trials, 'read_points', read)
    monkeypatch.chdir(root)
    line = ['compare', CONFIG, '--add', own, '--backbones', *OWN]
    line += ['--data-root', coco, '--lr', 0.01, 0.1, '--seeds', 0, 1]
    bound = 0.001
    status, output = tool_of(*line, '--work-dir', tmp_path / 'w')
    assert status == 1, output
    assert '| small | ' in output and '| resnet |' not in output
    assert '- small, seed 0, 0.1: failed. small, seed 0 failed; see' in output
    assert '- resnet, seed 0, 0.01: failed.' in output
    done.clear()
    line[line.index(0.01)] = 0.2
    status, output = tool_of(*line, '--work-dir', tmp_path / 'x')
    assert status == 1 and 'Every run failed' in output


def test_a_signal_ends_all_runs(tool_of, root, coco, own, tmp_path):
    """The same command resumes."""
    begun = tmp_path / 'w/small/lr_0.003/seed_0/train.log'
    before = set(psutil.Process().children())

    def stop():
        while not begun.exists():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    status, output = tool_of(
        *('compare', root / CONFIG, '--work-dir', tmp_path / 'w'),
        *('--add', own, '--backbones', *OWN, '--data-root', coco),
        *('--jobs', 2, '--seeds', 0, 1),
    )
    assert status == 1 and 'The same command resumes' in output, output
    assert set(psutil.Process().children()) <= before


def test_a_run_that_goes_on_elsewhere(tmp_path, monkeypatch):
    """It is no failed one."""

    def fail(*args, **kwargs):
        raise UserError("x\nError: 'w' is in use: process 7 trains there\ny")

    monkeypatch.setattr(trials, 'run_with_progress', fail)
    path = tmp_path / 'config.py'
    path.write_text('train_cfg = dict(max_epochs=1)')
    with pytest.raises(UserError, match="^'w' is in use: process 7"):
        trials.run_trial(Trial('a', path, 0, 0.1, tmp_path / 'w'))


def test_times_of_two_machines(tmp_path):
    """Are named apart."""
    runs = []
    for seed, threads in enumerate((1, 2)):
        folder = tmp_path / str(seed)
        start = folder / '20260101_000000'
        (start / 'vis_data').mkdir(parents=True)
        (start / 'vis_data/config.py').write_text('a = 1')
        info = dict(device='CPU', threads=threads, versions=dict(torch='2.1'))
        (start / 'run.json').write_text(json.dumps(info))
        points = [Point(4, 1.0, {'coco/bbox_mAP': 0.1})]
        runs.append(Trial('a', folder, seed, 0.1, folder, points))
    settings = dict(jobs=1, seeds=[0, 1])
    text = summary.write_results(tmp_path, runs, [], [], {'a': 1.0}, settings)
    assert 'several machines' in text
    assert '- CPU, 1 threads; torch 2.1: a (seed 0)' in text
    text = summary.write_results(
        *(tmp_path, runs[:1], [], [], {'a': 1.0}, settings)
    )
    assert '1 at a time; CPU, 1 threads; torch 2.1.' in text


def test_validations_without_a_detection(tmp_path, monkeypatch):
    """COCO's metric gives nothing then, which is 0."""
    log = SimpleNamespace(
        scores=[{'step': 1, 'time': 1.0}, {'step': 2, 'coco/bbox_mAP': 0.1}],
        total=('epoch', 2),
        cfg=Config(dict(train_dataloader=dict(batch_size=4))),
        training=[],
        iteration_of=lambda step: 10 * step,
    )
    monkeypatch.setattr(trials, 'read_run_log', lambda folder: log)
    first, last = trials.read_points(tmp_path)
    assert first.scores == {'coco/bbox_mAP': 0.0}
    assert last.scores == {'coco/bbox_mAP': 0.1}


def test_a_failing_run_ends_the_others(tmp_path, monkeypatch):
    """End several at a time; start none of those that wait."""
    ran = []

    def fail(trial, *args, **kwargs):
        ran.append(trial.seed)
        raise UserError(f'seed {trial.seed}')

    monkeypatch.setattr(trials, 'run_trial', fail)
    runs = [Trial('a', tmp_path, seed, 0.1, tmp_path) for seed in range(20)]
    with pytest.raises(UserError, match='seed'):
        trials.run_trials(runs, jobs=2)
    assert len(ran) < 20


def test_unfinished_runs(tmp_path):
    assert trials.read_points(tmp_path / 'none') == []
    with pytest.raises(UserError, match='no validation'):
        command.main(_arguments(tmp_path))


def _arguments(tmp_path):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(
        [
            *(CONFIG, '--work-dir', str(tmp_path), '--cfg-options'),
            *('val_dataloader=None', 'val_evaluator=None', 'val_cfg=None'),
        ]
    )


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (
            dict(
                val_dataloader={},
                val_evaluator=dict(type='CocoMetric', prefix='own'),
            ),
            'a comparison needs one of coco/bbox_mAP,',
        ),
        (
            dict(
                val_evaluator=dict(type='CocoMetric'),
                custom_hooks=[dict(type='EarlyStoppingHook')],
            ),
            'EarlyStoppingHook in custom_hooks would end runs',
        ),
    ],
)
def test_runs_that_give_no_score(change, words):
    with pytest.raises(UserError, match=words):
        command._check_scores(Config(change))
