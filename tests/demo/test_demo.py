"""The demo's line of progress; CI runs the demo itself."""

import json
import sys

import pytest

from mmsmt.demo import command
from mmsmt.demo.progress import describe_progress, run_with_progress
from mmsmt.errors import UserError

TRAIN = (
    '11/25 21:24:28 - mmengine - INFO - Epoch(train) [3][ 40/160]  base_lr: '
    '2.0e-05 lr: 2.0e-05  eta: 0:02:30  time: 0.7  grad_norm: 2.0  loss: 1.05 '
    'loss_rpn_cls: 0.01\n'
)
VAL = '11/25 21:24:35 - mmengine - INFO - Epoch(val) [3][10/13]\n'


@pytest.mark.parametrize(
    'log, line',
    [
        ('', 'Starting'),
        (TRAIN, 'Training: epoch 3 of 4,  25 %, loss 1.05, 0:02:30 left'),
        (TRAIN + VAL, 'Evaluating after epoch 3 of 4'),
        (
            VAL + TRAIN,
            'Training: epoch 3 of 4,  25 %, loss 1.05, 0:02:30 left',
        ),
    ],
)
def test_progress(log, line):
    assert describe_progress(log, 4) == line


def test_a_failing_tool_is_reported(tmp_path, capsys):
    """The end of its output, and where the rest is."""
    script = tmp_path / 'tool.py'
    script.write_text('raise SystemExit("no such thing")')
    log = tmp_path / 'work' / 'train.log'
    with pytest.raises(UserError) as stop:
        run_with_progress([sys.executable, script], 'Training', log, 4)
    assert 'no such thing' in str(stop.value)
    assert f'Training failed; see {log}' in str(stop.value)
    assert capsys.readouterr().out == f'Log: {log}\nStarting\n'


def run(folder, data, train, epochs):
    """A demo whose training is a file that was written before."""
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = ['--work-dir', folder / 'w', '--data', folder / data]
    options += ['--train', train, '--val', 1, '--epochs', epochs]
    command.main(parser.parse_args(list(map(str, options))))


def test_a_demo_on_other_data(tmp_path, monkeypatch, capsys):
    """Its results are not those of the run that is there."""
    trained = []

    def train(line, what, log, epochs):
        folder = log.parent / '20240101_000000/vis_data'
        folder.mkdir(parents=True, exist_ok=True)
        record = {'coco/bbox_mAP': 0.5, 'coco/segm_mAP': 0.4, 'step': epochs}
        with open(folder / 'scalars.json', 'a') as file:
            file.write(json.dumps(record) + '\n{"lr": 0.00')  # cut off
        (log.parent / f'epoch_{epochs}.pth').touch()
        trained.append(epochs)

    def last(folder):
        numbers = [int(p.stem[6:]) for p in folder.glob('epoch_*.pth')]
        return max(numbers, default=0)

    monkeypatch.setattr(command, 'run_with_progress', train)
    monkeypatch.setattr(command, 'find_last_epoch', last)
    for name in ('draw_curve', 'draw_predictions'):
        monkeypatch.setattr(command, name, lambda *args: 'picture')
    run(tmp_path, 'a', 2, 2)
    run(tmp_path, 'a', 2, 2)
    assert trained == [2]
    assert capsys.readouterr().out.count('box AP   0.500') == 2
    with pytest.raises(UserError, match='a demo on other data: 2 and 1 image'):
        run(tmp_path, 'b', 3, 2)
    with pytest.raises(UserError, match='a demo of 2 epochs'):
        run(tmp_path, 'a', 2, 1)
    with pytest.raises(UserError, match='with other settings') as error:
        run(tmp_path, 'a', 5, 2)
    assert '--force' not in str(error.value)


def test_a_program_that_is_to_end(tmp_path):
    """As a comparison ends its runs."""
    script = tmp_path / 'tool.py'
    script.write_text('import time\ntime.sleep(60)')
    with pytest.raises(UserError, match='Training was stopped'):
        run_with_progress(
            *([sys.executable, script], 'Training', tmp_path / 'log', 4),
            stopped=lambda: True,
        )
