"""The demo's line of progress; CI runs the demo itself."""

import sys

import pytest

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
