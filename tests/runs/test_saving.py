"""Checkpoints survive kills, full disks and bad weights."""

import json
import os
import random
import re
import subprocess
import time

import pytest
import torch
from support import toy

from mmsmt.runs.checkpoints import find_newest

KILLS = int(os.environ.get('MMSMT_TESTS_KILLS', 10))
LARGE = {
    'model.width': 100_000,  # 7 MB
    'train_dataloader.dataset.length': 4,
    'val_dataloader.dataset.length': 4,
    'train_cfg.max_epochs': 1000,
    'default_hooks.checkpoint.interval': 1,
}


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


@pytest.mark.slow
@pytest.mark.one_stack
def test_kills_while_saving(tmp_path):
    """No kill costs more than the save in flight."""
    generator = random.Random(0)
    for kill in range(KILLS):
        settings = {
            **LARGE,
            'default_hooks.checkpoint.max_keep_ckpts': 1 + kill % 3,
            'default_hooks.checkpoint.save_best': [None, 'toy/acc'][kill % 2],
            'custom_hooks': [dict(type='ToyNews')],
        }
        config = toy.write_config(tmp_path / 'run.py', **settings)
        work_dir = tmp_path / f'run{kill}'
        log = tmp_path / f'log{kill}'
        options = '--work-dir', work_dir, '--no-trial', '--no-check'
        process = toy.start('train', config, *options, log=log)
        toy.wait_for('\nsaved ', log, process)
        time.sleep(generator.random() * 0.5)
        process.kill()
        process.join()
        last = int(re.findall(r'^saved (\d+)$', log.read_text(), re.M)[-1])
        newest, problems = find_newest(work_dir)
        assert newest.iteration >= last and not problems
        assert len(list(work_dir.glob('epoch_*.pth'))) <= 2 + kill % 3
        if kill < 3 or 'MMSMT_TESTS_KILLS' in os.environ:  # it resumes
            log, start = tmp_path / f'again{kill}', time.time()
            process = toy.start('train', config, *options, '--resume', log=log)
            text = toy.wait_for('\nsaved ', log, process)
            process.kill()
            process.join()
            assert f'iter: {newest.iteration}' in text
            rest = work_dir.glob('best*.partial')  # of this kill at most
            assert all(path.stat().st_mtime >= start for path in rest)


def test_oldest_is_removed_last(tool_of, tmp_path, monkeypatch):
    """The new one is there before; so it is for the best."""
    seen = []
    remove = type(tmp_path).unlink

    def watch(path, *args, **kwargs):
        if path.suffix == '.pth' and path.exists():
            seen.append((path.name, names(path.parent)))
        remove(path, *args, **kwargs)

    monkeypatch.setattr(type(tmp_path), 'unlink', watch)
    config = toy.write_config(
        tmp_path / 'run.py', **{'default_hooks.checkpoint.max_keep_ckpts': 1}
    )
    assert tool_of('train', config, '--work-dir', tmp_path / 'run')[0] == 0
    kept = [(name, there) for name, there in seen if name[0] == 'e']
    assert [name for name, _ in kept] == ['epoch_1.pth', 'epoch_2.pth']
    assert all('epoch_2.pth' in there for _, there in kept[:1])
    assert 'epoch_3.pth' in kept[1][1]
    for name, there in seen:
        assert len([n for n in there if n.startswith(name[:5])]) > 1
    record = json.loads((tmp_path / 'run/record.json').read_text())
    (best,) = record['best'].values()
    assert names(tmp_path / 'run') == [best['file'], 'epoch_3.pth']
    assert record['validated_iter'] == 15
    last = (tmp_path / 'run/last_checkpoint').read_text()
    assert last == str(tmp_path / 'run/epoch_3.pth')


def test_another_run_s_files_are_left_alone(tool_of, tmp_path):
    config = toy.write_config(tmp_path / 'run.py')
    one, other = tmp_path / 'one', tmp_path / 'other'
    options = '--cfg-options', 'train_cfg.max_epochs=2'
    assert tool_of('train', config, '--work-dir', one, *options)[0] == 0
    before = {path: path.read_bytes() for path in one.glob('*.*')}
    for extra in ([], ['default_hooks.checkpoint.max_keep_ckpts=1']):
        status, text = tool_of(
            *('train', config, '--work-dir', other),
            *('--resume', one / 'epoch_1.pth', '--cfg-options'),
            *('train_cfg.max_epochs=3', *extra),
        )
        assert status == (1 if extra else 0), text
    assert 'epoch_3.pth, which the run would overwrite' in text
    assert {path: path.read_bytes() for path in one.glob('*.*')} == before
    # A copy goes on by itself, and so does what was moved.
    moved = one.rename(tmp_path / 'moved')
    status, text = tool_of('train', config, '--work-dir', moved, '--resume')
    assert status == 0 and str(one) + '/' not in text.split('Summary')[1]
    assert 'epoch_3.pth' in names(moved) and not one.exists()
    status, text = tool_of(
        *('train', config, '--work-dir', moved),
        *('--resume', moved / 'epoch_1.pth'),
    )
    assert status == 1 and 'epoch_3.pth, which the run would' in text


def test_damaged_checkpoints_are_passed_over(tool_of, tmp_path):
    config = toy.write_config(tmp_path / 'run.py')
    work_dir = tmp_path / 'run'
    options = '--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=2'
    assert tool_of('train', config, *options)[0] == 0
    whole = (work_dir / 'epoch_1.pth').read_bytes()
    (work_dir / 'epoch_8.pth').write_bytes(b'')
    (work_dir / 'epoch_9.pth').write_bytes(whole[: len(whole) // 2])
    content = bytearray((work_dir / 'epoch_2.pth').read_bytes())
    weight = torch.load(work_dir / 'epoch_2.pth', weights_only=False)[
        'state_dict'
    ]['layers.0.weight']
    at = content.index(weight.numpy().tobytes())
    content[at] ^= 1
    (work_dir / 'epoch_2.pth').write_bytes(content)
    status, text = tool_of('train', config, '--work-dir', work_dir, '--resume')
    assert status == 0
    for name in ('epoch_8.pth', 'epoch_9.pth', 'epoch_2.pth'):
        assert text.count('Passed over') == 3 and f"{name}'" in text
    assert 'resumed epoch: 1, iter: 5' in text
    for path in work_dir.glob('*.pth'):
        path.write_bytes(b'')
    status, text = tool_of('train', config, '--work-dir', work_dir, '--resume')
    assert status == 1 and 'No checkpoint' in text
    for path in work_dir.glob('epoch_*.pth'):  # a best one alone stays too
        path.unlink()
    for path in work_dir.glob('best_*.pth'):
        path.write_bytes(whole)
    status, text = tool_of('train', config, '--work-dir', work_dir)
    assert status == 1 and 'holds a run already, up to best_toy' in text


def test_nothing_to_resume_yet(tool_of, tmp_path):
    config = toy.write_config(tmp_path / 'run.py')
    options = '--cfg-options', 'train_cfg.max_epochs=1'
    assert tool_of('train', config, '--work-dir', tmp_path / 'a', *options)
    weights = tmp_path / 'a/epoch_1.pth'
    status, text = tool_of(
        *('train', config, '--work-dir', tmp_path / 'b', '--resume'),
        *(*options, f'load_from={weights}'),
    )
    assert status == 0 and f'Load checkpoint from {weights}' in text
    assert 'resumed' not in text


def test_full_disk(tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=20m', 'tmpfs', disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('needs root, to mount a small disk')
    try:
        config = toy.write_config(
            tmp_path / 'run.py', **{**LARGE, 'train_cfg.max_epochs': 9}
        )
        log = tmp_path / 'log'
        process = toy.start('train', config, '--work-dir', disk, log=log)
        process.join()
        assert process.exitcode == 1
        text = log.read_text()
        assert 'GB of checkpoints' in text and 'GB free' in text
        assert 'No space left' in text and 'Make room' in text
        newest, problems = find_newest(disk)
        assert not problems and str(newest.path) in text
        assert not list(disk.rglob('*.partial'))
    finally:
        subprocess.run(['umount', disk], check=True)


def test_weights_that_are_not_finite_are_not_saved(tool_of, tmp_path):
    config = toy.write_config(
        tmp_path / 'run.py',
        custom_hooks=[
            dict(type='mmsmt.GuardHook', patience=10**6),
            dict(type='ToySpoil', epoch=2),
        ],
    )
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert status == 1
    assert "weights are not finite, such as layers.0.bias: 'epoch_2" in text
    assert "epoch_1.pth'" in text.split('Error')[1]
    assert 'epoch_2.pth' not in names(tmp_path / 'run')


def test_validation_that_was_broken_off(tool_of, tmp_path):
    """It is made up for, so that a resumed run knows its best."""
    config = toy.write_config(
        tmp_path / 'run.py',
        custom_hooks=[dict(type='ToyAccident', in_val=2)],
    )
    with pytest.raises(KeyboardInterrupt):
        tool_of('train', config, '--work-dir', tmp_path / 'run')
    assert 'epoch_2.pth' in names(tmp_path / 'run')
    config = toy.write_config(tmp_path / 'run.py')
    status, text = tool_of(
        'train', config, '--work-dir', tmp_path / 'run', '--resume'
    )
    assert status == 0 and 'broken off' in text
    assert tool_of('train', config, '--work-dir', tmp_path / 'whole')[0] == 0
    one, other = (
        (tmp_path / name / 'record.json').read_text()
        for name in ('run', 'whole')
    )
    assert one == other
