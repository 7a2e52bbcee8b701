"""A resumed run equals the unbroken one."""

import signal

import pytest
import torch
from support import toy

from mmsmt.runs.checkpoints import find_newest


def weights(folder, name):
    return torch.load(folder / name, weights_only=False)['state_dict']


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


LAST = {True: 'epoch_3.pth', False: 'iter_15.pth'}
EMA = [dict(type='EMAHook', momentum=0.1)]


def workers(number, persistent=False):
    return {
        'train_dataloader.num_workers': number,
        'train_dataloader.persistent_workers': persistent,
    }


@pytest.mark.parametrize(
    'number', [None, signal.SIGTERM], ids=['crash', 'stop']
)
@pytest.mark.parametrize(
    ('by_epoch', 'settings'),
    [
        (True, {}),
        (True, {'custom_hooks': EMA, **workers(2)}),
        (True, {'randomness': {}, **workers(2, True)}),
        (True, {'optim_wrapper.accumulative_counts': 2}),
        (False, {}),
        (False, {'randomness': {}, **workers(2)}),
        (False, {'custom_hooks': EMA, **workers(1, True)}),
        (False, {'train_dataloader.sampler.type': 'DefaultSampler'}),
    ],
)
def test_equals_the_unbroken_run(
    tool_of, tmp_path, monkeypatch, by_epoch, settings, number
):
    config = toy.write_config(tmp_path / 'run.py', by_epoch, **settings)
    if 'randomness' in settings:  # a seed that is drawn
        monkeypatch.setattr(
            'mmengine.runner.utils.sync_random_seed', lambda: 1234
        )
        monkeypatch.setattr(
            'mmengine.dataset.sampler.sync_random_seed', lambda: 1234
        )
    monkeypatch.setenv(toy.READ, str(tmp_path / 'unbroken.txt'))
    status, _ = tool_of('train', config, '--work-dir', tmp_path / 'unbroken')
    assert status == 0
    hooks = settings.get('custom_hooks', [])
    accident = dict(type='ToyAccident', after=8, signal=number)
    broken = toy.write_config(
        tmp_path / 'broken.py',
        by_epoch,
        **{**settings, 'custom_hooks': [*hooks, accident]},
    )
    monkeypatch.setenv(toy.READ, str(tmp_path / 'broken.txt'))
    work_dir = tmp_path / 'broken'
    if number is None:
        with pytest.raises(KeyboardInterrupt):
            tool_of('train', broken, '--work-dir', work_dir)
    else:
        status, text = tool_of('train', broken, '--work-dir', work_dir)
        assert status == 143 and 'stopped.pth' in text
        newest, _ = find_newest(work_dir)
        assert newest.iteration == 8
    if 'randomness' in settings:
        monkeypatch.setattr(
            'mmengine.runner.utils.sync_random_seed', lambda: 99
        )
        monkeypatch.setattr(
            'mmengine.dataset.sampler.sync_random_seed', lambda: 99
        )
    (tmp_path / 'broken.txt').rename(tmp_path / 'first.txt')
    status, text = tool_of('train', config, '--work-dir', work_dir, '--resume')
    assert status == 0, text
    for name in (LAST[by_epoch],):
        assert_equal(
            weights(tmp_path / 'unbroken', name), weights(work_dir, name)
        )
    assert not (work_dir / 'stopped.pth').exists()
    assert (work_dir / 'record.json').read_text() == (
        tmp_path / 'unbroken/record.json'
    ).read_text()
