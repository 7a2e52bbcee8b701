"""Runs stop on signals and bad losses, with all that they reached."""

import os
import signal
import threading
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from support import toy

from mmsmt.demo.command import find_last_epoch
from mmsmt.errors import UserError
from mmsmt.hooks import GuardHook
from mmsmt.runs.checkpoints import find_newest
from mmsmt.runs.lock import RunLock

SLOW = {
    'train_dataloader.num_workers': 1,
    'train_dataloader.persistent_workers': True,
    'train_dataloader.dataset.pipeline.0.seconds': 0.1,
    'default_hooks.checkpoint.interval': 50,
    'train_cfg.max_epochs': 50,
    'train_cfg.val_interval': 50,
}


def news(log):
    return log.read_text()[-3000:]


@pytest.mark.parametrize(
    ('number', 'everywhere'),
    [
        (signal.SIGTERM, True),
        (signal.SIGINT, True),
        (signal.SIGTERM, False),
        (signal.SIGUSR1, False),  # as slurm warns before the end
    ],
)
def test_signals(tmp_path, number, everywhere):
    """Also to the loader's workers, as a scheduler sends them."""
    config = toy.write_config(tmp_path / 'run.py', **SLOW)
    log, work_dir = tmp_path / 'log', tmp_path / 'run'
    process = toy.start('train', config, '--work-dir', work_dir, log=log)
    toy.wait_for('Epoch(train)', log, process)
    if everywhere:
        children = toy.children_of(process.pid)
        assert children
        for pid in children:
            os.kill(pid, number)
        time.sleep(0.5)
        assert toy.children_of(process.pid) == children  # they ignore it
    for _ in range(3):  # counts as one
        os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == 128 + number, news(log)
    assert f'Stopped by {number.name}' in log.read_text()
    newest, problems = find_newest(work_dir)
    assert newest.path.name == 'stopped.pth' and not problems
    assert f'iteration {newest.iteration};' in log.read_text()
    assert toy.children_of(process.pid) == []
    last = (work_dir / 'last_checkpoint').read_text()
    assert last == str(newest.path)
    assert find_last_epoch(work_dir) == newest.epoch  # the demo resumes it


def test_workers_end_with_a_killed_run(tmp_path):
    """Also where they wait for it to take what no pipe holds."""
    changes = {
        'train_dataloader.num_workers': 2,
        'train_dataloader.dataset.pipeline.0.size': 10**6,
    }
    config = toy.write_config(tmp_path / 'run.py', **SLOW | changes)
    log = tmp_path / 'log'
    process = toy.start('train', config, '--work-dir', tmp_path, log=log)
    toy.wait_for('Epoch(train)', log, process)
    workers = toy.children_of(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.join()
    end = time.monotonic() + 12
    while workers and time.monotonic() < end:
        time.sleep(0.1)
        workers = [pid for pid in workers if Path(f'/proc/{pid}').exists()]
    assert not workers


@pytest.mark.slow
def test_a_later_signal_ends_at_once(tmp_path):
    config = toy.write_config(
        tmp_path / 'run.py',
        **{**SLOW, 'train_dataloader.dataset.pipeline.0.seconds': 60},
    )
    log = tmp_path / 'log'
    process = toy.start(
        'train', config, '--work-dir', tmp_path / 'run', log=log
    )
    toy.wait_for('Summary\n', log, process)
    time.sleep(1)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(5.5)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    process.join(5)
    assert process.exitcode == 143
    assert toy.children_of(process.pid) == []


def test_signal_in_validation(tool_of, tmp_path):
    """It stops at once; the run was saved before."""
    config = toy.write_config(
        tmp_path / 'run.py',
        custom_hooks=[dict(type='ToyAccident', in_val=1, signal=15)],
        **{'default_hooks.checkpoint.interval': 3},
    )
    work_dir = tmp_path / 'run'
    status, _ = tool_of('train', config, '--work-dir', work_dir)
    assert status == 143
    newest, _ = find_newest(work_dir)
    assert newest[:2] == (5, 1) and newest.path.name == 'stopped.pth'
    config = toy.write_config(tmp_path / 'run.py')
    status, text = tool_of('train', config, '--work-dir', work_dir, '--resume')
    assert status == 0 and 'broken off' in text


def test_losses_that_are_not_finite(tool_of, tmp_path):
    settings = {'model.nan_at': (7, 8, 10, 11, 12)}
    config = toy.write_config(tmp_path / 'run.py', **settings)
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'one')
    assert status == 1
    message = text.split('\nError: ')[1]
    for words in (
        'iteration 7 (epoch 2)',
        'learning rate 0.01,',
        'gradient norm nan',
        "process 0: loss nan, 'toy_",
        f'The last good checkpoint is {tmp_path / "one/epoch_1.pth"}',
        'lower learning rate',
    ):
        assert words in message, message
    # Patience: the updates are left out.
    config = toy.write_config(
        tmp_path / 'run.py',
        **settings,
        custom_hooks=[dict(type='mmsmt.GuardHook', patience=3)],
    )
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'three')
    assert status == 1 and 'iteration 12 (epoch 3)' in text
    assert find_newest(tmp_path / 'three')[0].iteration == 10
    with pytest.raises(ValueError, match='patience'):
        GuardHook(patience=0)


def test_a_learning_rate_that_is_too_high(tool_of, tmp_path):
    config = toy.write_config(
        tmp_path / 'run.py',
        **{'optim_wrapper.optimizer.lr': 1e30, 'param_scheduler': None},
    )
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert status == 1 and 'not finite in iteration' in text
    assert not list((tmp_path / 'run').glob('epoch_3.pth'))


@pytest.mark.parametrize('workers', [0, 1])
def test_errors_of_samples_name_the_file(tool_of, tmp_path, workers):
    config = toy.write_config(
        tmp_path / 'run.py',
        **{
            'train_dataloader.num_workers': workers,
            'train_dataloader.dataset.pipeline.0.fail_at': 7,
        },
    )
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert status == 1
    message = text.split('\nError: ')[1]
    assert message.startswith(
        "'toy_7.png' cannot be loaded: ToyNoise raised OSError: broken data"
    )
    assert 'Traceback' not in message


def test_killed_worker(tool_of, tmp_path):
    config = toy.write_config(
        tmp_path / 'run.py',
        **{
            'train_dataloader.num_workers': 1,
            'train_dataloader.dataset.pipeline.0.kill_at': 7,
        },
    )
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert status == 1
    assert 'limit of memory' in text.split('\nError: ')[1]
    assert 'num_workers' in text.split('\nError: ')[1]


def test_memory_of_a_gpu(monkeypatch):
    import torch

    from mmsmt.errors import UserError
    from mmsmt.runs import explain

    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda: 3 * 2**30)
    batch = {'inputs': [torch.zeros(3, 800, 1333), torch.zeros(3, 640, 480)]}
    with pytest.raises(UserError) as caught, explain.explain_memory(batch):
        raise explain.OUT_OF_MEMORY('CUDA out of memory. Tried to ...\nmore')
    for words in ('3.0 GiB', '640x480, 800x1333', 'with_cp', '--amp', 'batch'):
        assert words in str(caught.value)


def test_one_run_at_a_time(tool_of, tmp_path):
    config = toy.write_config(tmp_path / 'run.py', **SLOW)
    log, work_dir = tmp_path / 'log', tmp_path / 'run'
    process = toy.start('train', config, '--work-dir', work_dir, log=log)
    toy.wait_for('Epoch(train)', log, process)
    status, text = tool_of('train', config, '--work-dir', work_dir, '--resume')
    assert status == 1
    assert f'process {process.pid} on ' in text and "rm '" in text
    process.kill()
    process.join()
    assert (work_dir / 'run.lock').exists()
    config = toy.write_config(tmp_path / 'run.py')
    status, text = tool_of('train', config, '--work-dir', work_dir, '--resume')
    assert status == 0, text
    assert not (work_dir / 'run.lock').exists()


def test_lock_of_a_copied_work_dir(tmp_path):
    """It is of the original; a disk that is full leaves none."""
    for name in ('run', 'copy'):
        (tmp_path / name).mkdir()
    with RunLock(tmp_path / 'run'):
        text = (tmp_path / 'run/run.lock').read_text()
        (tmp_path / 'copy/run.lock').write_text(text)
        with RunLock(tmp_path / 'copy'):
            assert (tmp_path / 'copy/run.lock').read_text() != text
        with pytest.raises(UserError, match='is in use'):
            RunLock(tmp_path / 'run').__enter__()
    lock = RunLock(tmp_path / 'run')
    full = patch('mmsmt.runs.lock.json.dump', side_effect=OSError(28, 'full'))
    with full, pytest.raises(OSError, match='full'):
        lock.__enter__()
    assert not lock.path.exists()


def test_lock_of_another_host(tool_of, tmp_path, monkeypatch):
    """It holds while it beats; a killed job may start again elsewhere."""
    monkeypatch.setattr('mmsmt.runs.lock.BEAT', 0.5)
    config = toy.write_config(tmp_path / 'run.py')
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    lock = work_dir / 'run.lock'
    owner = '{"host": "elsewhere", "pid": 1, "started": "x"}'
    lock.write_text(owner)
    timer = threading.Timer(1, os.utime, [lock])
    timer.start()
    status, text = tool_of('train', config, '--work-dir', work_dir)
    timer.join()
    assert status == 1 and 'process 1 on elsewhere trains' in text
    status, text = tool_of('train', config, '--work-dir', work_dir)
    assert status == 0 and 'waiting 2 s for a sign of life' in text
    lock.write_text(owner)
    old = time.time() - 601
    os.utime(lock, (old, old))
    status, text = tool_of('train', config, '--work-dir', work_dir, '--resume')
    assert status == 0 and 'waiting' not in text
    blocked = tmp_path / 'file'
    blocked.write_text('')
    status, text = tool_of('train', config, '--work-dir', blocked)
    assert status == 1 and 'cannot be made' in text


def test_strange_settings(tool_of, tmp_path):
    """``num_workers=0`` with what needs workers, and no scaling at all."""
    config = toy.write_config(
        tmp_path / 'run.py',
        **{
            'auto_scale_lr': None,
            'train_dataloader.persistent_workers': True,
            'train_dataloader.prefetch_factor': 2,
            'train_cfg.max_epochs': 1,
        },
    )
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert status == 0, text
    status, text = tool_of(
        'train', config, '--work-dir', tmp_path / 'b', '--auto-scale-lr'
    )
    assert status == 1 and 'auto_scale_lr.base_batch_size' in text


def test_strategies_need_gpus(tool_of, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    config = toy.write_config(
        tmp_path / 'run.py',
        runner_type='FlexibleRunner',
        strategy=dict(type='FSDPStrategy'),
    )
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert status == 1 and 'strategy=FSDPStrategy' in text
    assert 'needs GPUs' in text
