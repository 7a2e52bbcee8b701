"""Two processes on this machine: one state, one end, one message."""

import re
import time

import pytest
import torch
from support import toy
from support.toy import assert_equal, weights

from mmsmt.runs.checkpoints import find_newest

pytestmark = pytest.mark.one_stack


@pytest.mark.slow
def test_stop_and_resume(train_two, tmp_path):
    """A signal to one process stops both after the same iteration."""
    draws = {toy.DRAWS: str(tmp_path / 'draws')}
    config = toy.write_config(tmp_path / 'run.py')
    status, text = train_two(config, tmp_path / 'whole', **draws)
    assert status == 0, text
    first, second = (
        (tmp_path / f'draws{rank}').read_text().split('\n') for rank in (0, 1)
    )
    assert len(first) == len(second) == 3 * 3 + 1
    assert not set(first[:-1]) & set(second[:-1])

    accident = dict(type='ToyAccident', after=4, signal=15, rank=1)
    broken = toy.write_config(tmp_path / 'broken.py', custom_hooks=[accident])
    status, text = train_two(broken, tmp_path / 'broken')
    assert status != 0 and text.count('Stopped by SIGTERM after') == 1
    newest, _ = find_newest(tmp_path / 'broken')
    assert newest.iteration == 4 and newest.processes == 2
    status, text = train_two(config, tmp_path / 'broken', '--resume')
    assert status == 0, text
    name = 'epoch_3.pth'
    assert_equal(
        weights(tmp_path / 'whole', name), weights(tmp_path / 'broken', name)
    )


@pytest.mark.slow
def test_one_message(train_two, tmp_path):
    """Losses that are not finite end both; so does a killed process."""
    settings = {'model.nan_at': (5,)}
    config = toy.write_config(tmp_path / 'run.py', **settings)
    status, text = train_two(config, tmp_path / 'run')
    assert status != 0
    assert text.count('Error: Losses or gradients are not finite') == 1
    assert re.search(r"process 1: loss nan, 'toy_\d+.png'", text)
    accident = dict(type='ToyAccident', after=4, signal=9, rank=1)
    config = toy.write_config(tmp_path / 'kill.py', custom_hooks=[accident])
    start = time.monotonic()
    status, text = train_two(config, tmp_path / 'kill')
    assert status != 0 and time.monotonic() - start < 60
    assert 'Signal 9 (SIGKILL)' in text


@pytest.mark.slow
def test_statistics_are_averaged(train_two, tmp_path):
    """Validate and save the mean of both processes' statistics."""
    hooks = [dict(type='ToyStatistics', file=str(tmp_path / 'rank'))]
    for by_epoch in (True, False):
        config = toy.write_config(
            tmp_path / 'run.py',
            by_epoch,
            custom_hooks=hooks,
            **{
                'default_hooks.checkpoint.interval': 1 if by_epoch else 5,
                'train_cfg.max_epochs'
                if by_epoch
                else 'train_cfg.max_iters': (1 if by_epoch else 5),
            },
        )
        work_dir = tmp_path / f'run{by_epoch}'
        status, text = train_two(config, work_dir)
        assert status == 0, text
        own = [torch.load(tmp_path / f'rank{i}.own') for i in (0, 1)]
        seen = [torch.load(tmp_path / f'rank{i}.seen') for i in (0, 1)]
        assert not torch.equal(*own)
        saved = weights(work_dir, 'epoch_1.pth' if by_epoch else 'iter_5.pth')
        mean = (own[0] + own[1]) / 2
        for value in (*seen, saved['layers.1.running_mean']):
            torch.testing.assert_close(value, mean)


@pytest.mark.slow
def test_a_process_that_hangs(train_two, tmp_path):
    hooks = [
        dict(type='mmsmt.GuardHook', timeout=2),
        dict(type='ToyAccident', after=4, signal=19, rank=1),  # SIGSTOP
    ]
    config = toy.write_config(tmp_path / 'run.py', custom_hooks=hooks)
    status, text = train_two(config, tmp_path / 'run')
    assert status != 0
    assert 'Process 1 gives no sign of life' in text
    sleepy = {'train_dataloader.dataset.pipeline.0.sleep_on': 1}
    config = toy.write_config(
        tmp_path / 'run.py', custom_hooks=hooks[:1], **sleepy
    )
    status, text = train_two(config, tmp_path / 'sleepy')
    assert status != 0
    assert 'Process 1 hangs in iteration 4 (loading)' in text
    # A long validation is none.
    slow = {'val_dataloader.dataset.pipeline.0.seconds': 0.8}
    config = toy.write_config(
        tmp_path / 'run.py',
        custom_hooks=hooks[:1],
        **{**slow, 'train_cfg.max_epochs': 1},
    )
    status, text = train_two(config, tmp_path / 'slow', '--no-trial')
    assert status == 0, text
