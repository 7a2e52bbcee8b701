"""A resumed run equals the unbroken one."""

import inspect
import re
import signal

import pytest
from mmengine.runner import IterBasedTrainLoop
from support import toy
from support.toy import assert_equal, weights

from mmsmt.runs.checkpoints import find_newest

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
    first = (tmp_path / 'broken.txt').read_text().split()
    (tmp_path / 'broken.txt').unlink()
    status, text = tool_of('train', config, '--work-dir', work_dir, '--resume')
    assert status == 0, text
    name = LAST[by_epoch]
    assert_equal(weights(tmp_path / 'unbroken', name), weights(work_dir, name))
    if number and not settings:  # nothing is read twice, or left out
        both = first + (tmp_path / 'broken.txt').read_text().split()[8:]
        assert both == (tmp_path / 'unbroken.txt').read_text().split()
    assert not (work_dir / 'stopped.pth').exists()
    assert (work_dir / 'record.json').read_text() == (
        tmp_path / 'unbroken/record.json'
    ).read_text()


@pytest.mark.parametrize(
    'settings',
    [
        {
            'custom_hooks': [
                dict(
                    type='EarlyStoppingHook',
                    monitor='toy/acc',
                    rule='greater',
                    min_delta=10,  # never better
                    patience=3,
                )
            ]
        },
        {
            'param_scheduler': [
                dict(
                    type='ReduceOnPlateauLR',
                    monitor='toy/acc',
                    rule='greater',
                    threshold=10,
                    patience=1,
                    factor=0.1,
                )
            ]
        },
    ],
    ids=['early', 'plateau'],
)
def test_what_a_validation_changes(tool_of, tmp_path, settings):
    """Early stopping counts, and the learning rate follows the metric."""
    settings = {'train_cfg.max_epochs': 6, **settings}
    config = toy.write_config(tmp_path / 'run.py', **settings)
    status, text = tool_of('train', config, '--work-dir', tmp_path / 'whole')
    assert status == 0, text
    last = 4 if 'custom_hooks' in settings else 6
    for accident in (13, 16):  # in the middle of an epoch, and at its start
        hooks = [
            *settings.get('custom_hooks', []),
            dict(type='ToyAccident', after=accident),
        ]
        broken = toy.write_config(
            tmp_path / 'broken.py', **{**settings, 'custom_hooks': hooks}
        )
        work_dir = tmp_path / f'broken{accident}'
        with pytest.raises(KeyboardInterrupt):
            tool_of('train', broken, '--work-dir', work_dir)
        line = ['train', config, '--work-dir', work_dir, '--resume']
        status, text = tool_of(*line)
        assert status == 0, text
        assert not (work_dir / f'epoch_{last + 1}.pth').exists()
        name = f'epoch_{last}.pth'
        assert_equal(
            weights(tmp_path / 'whole', name), weights(work_dir, name)
        )
    if last == 4:  # it stays stopped
        status, text = tool_of(*line)
        assert status == 0, text
        assert 'Early stopping has ended this run' in text
        assert not (work_dir / 'epoch_5.pth').exists()
        more = '--cfg-options', 'custom_hooks.0.patience=5'
        status, text = tool_of(*line, *more)
        assert status == 0, text
        assert (work_dir / 'epoch_5.pth').exists()


def test_schedule_of_the_config(tool_of, tmp_path):
    """A resumed run has the rates that its config gives a new one."""
    longer = [
        'train_cfg.max_epochs=5',
        'param_scheduler.1.milestones=[4]',
        'optim_wrapper.optimizer.lr=0.02',
    ]
    config = toy.write_config(tmp_path / 'run.py')
    assert tool_of('train', config, '--work-dir', tmp_path / 'run')[0] == 0
    status, text = tool_of(
        *('train', config, '--work-dir', tmp_path / 'run', '--resume'),
        *('--cfg-options', *longer),
    )
    assert status == 0
    (line,) = (line for line in text.split('\n') if 'differs from' in line)
    assert 'initial_lr 0.01 -> 0.02' in line
    assert 'milestones=[2]' in line and 'milestones=[4]' in line
    assert 'at a learning rate of 0.02' in line
    status, whole = tool_of(
        *('train', config, '--work-dir', tmp_path / 'whole'),
        *('--cfg-options', *longer),
    )
    rates = re.findall(r'Epoch\(train\) +\[[45]\].*lr: ([\d.e+-]+)', whole)
    assert rates[0] == '2.0000e-02' and rates[-1] == '2.0000e-03'
    assert re.findall(r'Epoch\(train\) .*lr: ([\d.e+-]+)', text) == rates


@pytest.mark.parametrize('saved', [True, False])
def test_epochs_of_another_length(tool_of, tmp_path, saved):
    """A schedule in iterations is at the same part of the run.

    Also if the checkpoint has no optimizer.
    """
    schedule = dict(
        type='CosineAnnealingLR',
        begin=0,
        end=4,
        T_max=4,
        by_epoch=True,
        convert_to_iter_based=True,
    )
    config = toy.write_config(
        tmp_path / 'run.py',
        param_scheduler=[schedule],
        **{
            'train_cfg.max_epochs': 2,
            'default_hooks.checkpoint.save_optimizer': saved,
        },
    )
    line = ['train', config, '--work-dir', tmp_path / 'run']
    assert tool_of(*line, '--no-trial')[0] == 0
    status, text = tool_of(
        *(*line, '--resume', '--cfg-options', 'train_cfg.max_epochs=4'),
        'train_dataloader.batch_size=2',
    )
    assert status == 0, text
    assert 'An epoch had ' in text and 'the run resumes at iteration' in text
    rates = re.findall(r'Epoch\(train\) +\[3\].*lr: ([\d.e+-]+)', text)
    # The cosine is at its middle after two of four epochs.
    assert 0.3 < float(rates[0]) / 0.01 < 0.51, rates
    last = re.findall(r'Epoch\(train\) +\[4\].*lr: ([\d.e+-]+)', text)[-1]
    assert float(last) < 0.0005
    assert ('no state of the optimizer' in text) != saved


def test_one_cycle(tool_of, tmp_path):
    """Its state refers to a function, which is not called in reading."""
    schedule = dict(type='OneCycleLR', eta_max=0.1, total_steps=30)
    config = toy.write_config(
        tmp_path / 'run.py',
        param_scheduler=[dict(schedule, by_epoch=False)],
        **{'train_cfg.max_epochs': 1},
    )
    line = ['train', config, '--work-dir', tmp_path / 'run']
    assert tool_of(*line)[0] == 0
    status, text = tool_of(
        *line, '--resume', '--cfg-options', 'train_cfg.max_epochs=2'
    )
    assert status == 0, text
    assert 'Epoch(train) [2]' in re.sub(' +', ' ', text)


def test_rate_of_the_summary(tool_of, tmp_path):
    """Also with factors by parameter and a scaled rate."""
    config = toy.write_config(
        tmp_path / 'run.py',
        auto_scale_lr=dict(base_batch_size=16),
        **{
            'optim_wrapper.paramwise_cfg': dict(
                custom_keys={'layers.0': dict(lr_mult=0.1)}
            ),
            'train_cfg.max_epochs': 2,
        },
    )
    options = 'train', config, '--work-dir', tmp_path / 'run'
    for extra in ([], ['--resume', '--cfg-options', 'train_cfg.max_epochs=3']):
        status, text = tool_of(*options, '--auto-scale-lr', *extra)
        assert status == 0
        assert 'lr         0.0025, by parameter 0.00025 to 0.0025' in text
        assert 'is not scaled' not in text
    status, text = tool_of(
        *('train', config, '--work-dir', tmp_path / 'other'),
    )
    assert 'lr         0.01, by parameter 0.001 to 0.01' in text
    assert 'optim_wrapper.optimizer.lr=0.0025' in text


def test_what_cannot_be_equal_is_said(tool_of, tmp_path):
    config = toy.write_config(tmp_path / 'run.py')
    assert tool_of('train', config, '--work-dir', tmp_path / 'run')[0] == 0
    status, text = tool_of(
        *('train', config, '--work-dir', tmp_path / 'run', '--resume'),
        *('--cfg-options', 'train_dataloader.batch_size=5'),
        *('randomness.seed=3', 'train_cfg.max_epochs=4'),
    )
    assert status == 0
    assert '4 -> 5 images a process, seed 0 -> 3' in text
    status, text = tool_of(
        *('train', config, '--work-dir', tmp_path / 'new'),
        *('--cfg-options', 'activation_checkpointing=[layers]'),
    )
    assert status == 1 and 'model.backbone.with_cp=True' in text


@pytest.mark.one_stack
@pytest.mark.parametrize(
    'settings',
    [
        {'by_epoch': False, 'train_cfg.fast_forward_on_resume': True},
        {
            'by_epoch': False,  # it counts validations all the same
            'param_scheduler': [
                dict(type='ReduceOnPlateauLR', monitor='toy/acc')
            ],
        },
        {
            'model.type': 'ToyPair',
            'optim_wrapper.constructor': 'ToyPairConstructor',
            'param_scheduler': None,
        },
        {
            'default_hooks.checkpoint': dict(
                type='CheckpointHook',
                save_best=['toy/acc', 'toy/falling'],
                rule='greater',
                published_keys=['meta', 'state_dict'],
            )
        },
    ],
    ids=['forward', 'plateau', 'optimizers', 'published'],
)
def test_rarer_settings(tool_of, tmp_path, settings):
    """A run that is stopped and resumed has them to its end."""
    if 'train_cfg.fast_forward_on_resume' in settings:
        signature = inspect.signature(IterBasedTrainLoop)
        if 'fast_forward_on_resume' not in signature.parameters:
            pytest.skip('of newer mmengine')
    config = toy.write_config(tmp_path / 'run.py', **settings)
    hooks = [dict(type='ToyAccident', after=12)]
    broken = toy.write_config(
        tmp_path / 'broken.py', **settings, custom_hooks=hooks
    )
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    status, text = tool_of('train', config, '--work-dir', whole)
    assert status == 0, text
    with pytest.raises(KeyboardInterrupt):
        tool_of('train', broken, '--work-dir', parts)
    status, text = tool_of('train', config, '--work-dir', parts, '--resume')
    assert status == 0, text
    name = 'epoch_3.pth' if settings.get('by_epoch', True) else 'iter_15.pth'
    assert_equal(weights(whole, name), weights(parts, name))
    published = [len(list(x.glob('*-*.pth'))) for x in (whole, parts)]
    assert published[0] == published[1]
    assert bool(published[0]) == ('default_hooks.checkpoint' in settings)
