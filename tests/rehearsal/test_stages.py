"""A rehearsal fails where the config would."""

import json
import signal

import pytest
from support.configs import CONFIGS, load

from mmsmt.rehearsal import stages
from mmsmt.rehearsal.cures import find_cure
from mmsmt.rehearsal.estimate import estimate_full_run


@pytest.fixture
def rehearsed(tmp_path, monkeypatch):
    """A rehearsal whose tools are replaced by what they would note."""
    subject = stages.Rehearsal(load('mask_rcnn_smt_s_1x'), tmp_path, 0.25)
    runs = []

    def tool(name, *args):
        status, notes = runs.pop(0)
        with open(subject.probe, 'a') as file:
            for note in notes:
                file.write(json.dumps(note) + '\n')
        return status, 'the log'

    monkeypatch.setattr(subject, '_run_command', tool)
    return subject, runs


def note(iteration: int, lr: float = 0.1) -> dict:
    return dict(iteration=iteration, of=4, lr=lr, loss=1.0, seconds=1.0, gpu=0)


KILLED = (-signal.SIGKILL, [note(0), note(1), note(2)])


IDLE = dict(idle=[])


DONE = [note(2), note(3), IDLE, dict(metrics=dict(mAP=0.5))]


@pytest.mark.parametrize(
    'resumed, message',
    [
        ((0, DONE), None),
        ((1, []), 'exit status 1'),
        ((0, [note(i) for i in range(4)]), 'began anew'),
        ((0, [note(2)]), 'ended after 3'),
        ((0, [note(2, 0.2), *DONE[1:]]), 'was 0.1 and is 0.2'),
        ((0, [*DONE[:2], dict(idle=['neck.a'])]), '1 parameters never'),
        ((0, DONE[:3]), 'never validated'),
        ((0, [*DONE[:3], dict(metrics={})]), 'no metric'),
    ],
)
def test_resume_is_checked(rehearsed, resumed, message):
    subject, runs = rehearsed
    (subject.work_dir / 'run').mkdir()
    (subject.work_dir / 'run' / 'last_checkpoint').touch()
    runs += [KILLED, resumed]
    assert subject.train() == 'killed in iteration 3 of 4'
    if message is None:
        assert 'from iteration 3; lr 0.1' in subject.resume()
        return
    with pytest.raises(stages.StageError, match=message):
        subject.resume()


@pytest.mark.parametrize('run', [(1, KILLED[1]), (KILLED[0], [note(0)])])
def test_a_run_that_was_not_killed_as_planned(rehearsed, run):
    subject, runs = rehearsed
    runs.append(run)
    with pytest.raises(stages.StageError, match='exit status'):
        subject.train()


def test_one_checkpoint_only(rehearsed):
    """Pass a run that saves at its end only: nothing can be resumed."""
    subject, runs = rehearsed
    runs.append((0, [*KILLED[1], note(3), *DONE[2:]]))
    assert subject.train() == '4 iterations; no checkpoint before the last'
    assert subject.resume().startswith('nothing to resume; lr 0.1')


def test_a_stage_that_raises_is_a_line_of_the_table(rehearsed, monkeypatch):
    subject, _ = rehearsed

    def broken():
        raise KeyError('of a kind not thought of')

    monkeypatch.setattr(subject, 'make_data', broken)
    assert not subject.run()
    lines = '\n'.join(stages.format_table(subject.stages))
    assert 'FAILED' in lines and 'of a kind not thought of' in lines


def test_cures():
    log = 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate'
    assert 'with_cp' in find_cure(log)
    assert '--scale' in find_cure('selected index k out of range')
    log = 'IndexError: Target 7 is out of bounds.'
    assert 'num_classes' in find_cure(log)
    assert find_cure('KeyError') == ''


def test_estimate():
    """12 epochs of 117,266 images, 16 at a time, at a quarter of a second."""
    text = estimate_full_run(
        [9.0, 0.25, 0.25, 0.25], 8 * 2**30, 80 * 2**30, load(
            'mask_rcnn_smt_s_1x'
        ), 'a GPU'
    )  # fmt: skip
    assert 'with 117266 images as in the paper: 87950 iterations' in text
    assert 'of 0.250 s, 6.1 h on 8 GPUs (a GPU)' in text
    assert '49 h on one' in text.replace('\n', ' ')
    assert 'Memory at 2 images a GPU: at least 8.0 of 80.0 GiB.' in text
    text = estimate_full_run(
        [1.0], 2**30, 2**34, load('upernet_smt_s_160k'), 'a GPU'
    )
    assert '160000 iterations of 1.000 s, 44.4 h on 8 GPUs' in text


@pytest.mark.slow
def test_a_config_that_would_break_fails(python, tmp_path):
    """Labels beyond the classes: found in seconds, said with its log."""
    folder = tmp_path / 'rehearsal'
    args = ('tools/rehearse.py', 'configs/smt_t_in1k.py', '--scale', '0.15')
    result = python(
        *args,
        *('--batch', 2, '--work-dir', folder),
        *('--cfg-options', 'model.head.num_classes=2'),
        'data_preprocessor.num_classes=2',
        check=False,
        cwd=CONFIGS.parent,
    )
    assert result.returncode == 1
    assert 'train, kill' in result.stdout
    assert 'FAILED: exit status 1' in result.stdout
    assert 'Error' in result.stdout.split('FAILED')[1]
    assert 'Cure: num_classes of every head' in result.stdout
    assert (folder / 'train.log').is_file()
    again = python(
        *args, '--work-dir', folder, check=False, cwd=CONFIGS.parent
    )
    assert again.returncode == 1 and 'give a new folder' in again.stdout
