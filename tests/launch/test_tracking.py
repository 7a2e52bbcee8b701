"""Experiment trackers, by the real packages, in the work dir."""

import time

import pytest
from support import toy

from mmsmt.launch.tracking import TRACKERS

VISUALIZER = dict(
    type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]
)


def read_tensorboard(folder):
    from tensorboard.backend.event_processing import event_accumulator

    (path,) = folder.rglob('events.out.tfevents.*')
    events = event_accumulator.EventAccumulator(str(path.parent)).Reload()
    return {event.step for event in events.Scalars('loss')}


def read_wandb(folder):
    (path,) = folder.rglob('offline-run-*/*.wandb')
    end = time.monotonic() + 30
    while True:  # another process writes it, which may still do so
        count = path.read_bytes().count(b'\x04loss')  # a key with its length
        if count >= 15 or time.monotonic() > end:
            return set(range(1, count + 1))
        time.sleep(0.1)


def read_mlflow(folder):
    import mlflow

    client = mlflow.MlflowClient(f'sqlite:///{folder}/mlflow.db')
    experiment = client.get_experiment_by_name('run')
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, 'loss')
    return {metric.step for metric in history}


@pytest.mark.slow
@pytest.mark.parametrize('name', TRACKERS)
def test_values_arrive(tool_of, tmp_path, monkeypatch, name):
    pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    config = toy.write_config(tmp_path / 'toy.py', visualizer=VISUALIZER)
    status, output = tool_of(
        *('train', config, '--work-dir', tmp_path / 'run', '--no-trial'),
        *('--tracker', name),
    )
    assert status == 0, output[-2000:]
    read = globals()[f'read_{name}']
    assert 15 in read(tmp_path / 'run')
    assert {path.name for path in tmp_path.iterdir()} == {'toy.py', 'run'}


def test_what_is_missing(tool_of, tmp_path, monkeypatch):
    monkeypatch.setattr('mmsmt.launch.tracking.find_spec', lambda name: None)
    config = toy.write_config(tmp_path / 'toy.py')
    command = ['train', config, '--work-dir', tmp_path / 'run', '--tracker']
    status, output = tool_of(*command, 'mlflow')
    assert status == 1
    assert '--tracker mlflow needs: pip install mlflow' in output
    monkeypatch.undo()
    monkeypatch.setattr('mmsmt.launch.tracking.find_spec', lambda name: 1)
    status, output = tool_of(*command, 'wandb')
    assert status == 1 and 'needs a visualizer in the config' in output
    assert not (tmp_path / 'run').exists()
