"""A run of seconds whose every step draws random numbers.

Registered in mmengine's root scope, for configs with ``custom_imports``.
"""

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import (
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    STRATEGIES,
    TRANSFORMS,
)
from torch import nn

from mmsmt import SMT
from mmsmt.runs.sharding import FSDPStrategy

from .forks import leave_configs_unformatted
from .small import ARCH

DRAWS = 'TOY_DRAWS'
"""Environment variable: start of the names of files, one for each process,
that list the model's random numbers."""
READ = 'TOY_READ'
"""Environment variable: a file that lists the samples that were read."""


@DATASETS.register_module()
class ToyData(BaseDataset):
    """Vectors, with names of files that do not exist."""

    METAINFO = {'classes': ('a', 'b')}

    def __init__(self, length: int = 20, **kwargs) -> None:
        self.length = length
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        return [
            {'img_path': f'toy_{i}.png', 'img_id': i, 'value': i}
            for i in range(self.length)
        ]


@TRANSFORMS.register_module()
class ToyNoise:
    """Add random numbers of all generators.

    Args:
        fail_at: Value of the sample that raises an error.
        kill_at: Value of the sample at which the process is killed.
        seconds: Time that a sample takes.
        size: Length of a text in each sample.
        sleep_on: Rank of a process whose thirteenth sample takes 8 seconds.
    """

    def __init__(
        self, fail_at=None, kill_at=None, seconds=0.0, sleep_on=None, size=0
    ) -> None:
        self.fail_at, self.kill_at, self.size = fail_at, kill_at, size
        self.seconds, self.sleep_on, self.calls = seconds, sleep_on, 0

    def __call__(self, data: dict) -> dict:
        self.transform(data)
        return data

    def transform(self, data: dict) -> None:
        if data['value'] == self.fail_at:
            raise OSError('broken data stream when reading image file')
        if data['value'] == self.kill_at:
            os.kill(os.getpid(), 9)
        if READ in os.environ:
            with open(os.environ[READ], 'a') as file:
                file.write(f'{data["value"]}\n')
        time.sleep(self.seconds)
        self.calls += 1
        if self.sleep_on == get_rank() and self.calls == 13:
            time.sleep(8)
        noise = random.random() + np.random.rand() + torch.rand(())
        data['text'] = 'x' * self.size
        data['inputs'] = torch.full((3,), data['value'] / 20) + noise


@MODELS.register_module()
class ToyModel(BaseModel):
    """Linear layers with batch norm and dropout; NaN losses if asked.

    Args:
        width: Of the hidden layer, for files of any size.
        nan_at: Numbers of the losses that are NaN, from 1.
    """

    def __init__(self, width: int = 8, nan_at: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, width),
            nn.BatchNorm1d(width),
            nn.Dropout(0.5),
            nn.Linear(width, 1),
        )
        self.nan_at, self.calls = nan_at, 0

    def forward(self, inputs, img_path=None, value=None, mode='tensor', **_):
        draws = random.random(), np.random.rand(), float(torch.rand(()))
        inputs = torch.stack(list(inputs)) + sum(draws)
        output = self.layers(inputs.float())
        if mode != 'loss':
            return output
        self.calls += 1
        if DRAWS in os.environ:
            with open(f'{os.environ[DRAWS]}{get_rank()}', 'a') as file:
                file.write(f'{draws}\n')
        loss = (output - 1).square().mean()
        if self.calls in self.nan_at:
            loss = loss * float('nan')
        return {'loss': loss}


@MODELS.register_module()
class ToyPair(ToyModel):
    """A model that steps two optimizers in turn."""

    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        for name in ('first', 'last'):
            optim_wrapper.zero_grad()  # of the other one's loss
            losses, log = self.parse_losses(self(**data, mode='loss'))
            optim_wrapper[name].update_params(losses)
        return log


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ToyPairConstructor:
    """Make an optimizer for each half of the layers."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None) -> None:
        self.lr = optim_wrapper_cfg['optimizer']['lr']

    def __call__(self, model) -> OptimWrapperDict:
        def make(layers):
            return OptimWrapper(
                torch.optim.AdamW(layers.parameters(), lr=self.lr)
            )

        layers = getattr(model, 'module', model).layers
        return OptimWrapperDict(first=make(layers[:2]), last=make(layers[2:]))


@MODELS.register_module()
class ToySMT(ToyModel):
    """An SMT whose output is the power of its last map."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = SMT(ARCH, norm_eval=True)

    def forward(self, inputs, mode='tensor', **_):
        noise = torch.rand(3, 32, 32)
        images = torch.stack([x[:, None, None] * noise for x in inputs])
        output = self.layers(images.float())[-1].square().mean(dim=(1, 2, 3))
        return output if mode != 'loss' else {'loss': output.mean()}


@STRATEGIES.register_module()
class ToySharding(FSDPStrategy):
    """The strategy on a CPU, where PyTorch cannot offload."""

    def __init__(self, **kwargs) -> None:
        whole = dict(
            state_dict_type='FULL_STATE_DICT',
            state_dict_config=dict(
                type='FullStateDictConfig', rank0_only=True
            ),
            optim_state_dict_config=dict(
                type='FullOptimStateDictConfig', rank0_only=True
            ),
        )
        super().__init__(
            model_wrapper=dict(device_id=torch.device('cpu')),
            state_dict_cfg=whole,
            **kwargs,
        )


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """A score that changes with each validation, and one that falls."""

    default_prefix = 'toy'
    calls = 0

    def process(self, data_batch, data_samples) -> None:
        self.results += [float(value.mean()) for value in data_samples]

    def compute_metrics(self, results: list) -> dict:
        self.calls += 1
        accuracy = 1 - abs(sum(results) / len(results) - 1)
        return {'acc': accuracy, 'falling': -self.calls}


@HOOKS.register_module()
class ToyAccident(Hook):
    """Send a signal to this process, or raise.

    Args:
        after: Number of the iteration after which it happens, from 1.
        in_val: Number of the epoch in whose validation it happens instead.
        signal: The signal.
        rank: Of the process.
    """

    def __init__(self, after=None, in_val=None, signal=None, rank=0) -> None:
        self.after, self.in_val, self.signal = after, in_val, signal
        self.rank = rank

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.iter + 1 == self.after and get_rank() == self.rank:
            self.happen()

    def after_val_iter(self, runner, *args, **kwargs) -> None:
        if runner.epoch == self.in_val:
            self.happen()

    def happen(self) -> None:
        if self.signal is None:
            raise KeyboardInterrupt
        if self.signal == signal.SIGSTOP:
            # Let torchrun end this process, without its half minute.
            subprocess.Popen(
                ['sh', '-c', f'sleep 8; kill -CONT {os.getpid()}']
            )
        os.kill(os.getpid(), self.signal)


@HOOKS.register_module()
class ToySpoil(Hook):
    """Set a weight to NaN at the end of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_train_epoch(self, runner) -> None:
        if runner.epoch + 1 == self.epoch:
            runner.model.layers[0].bias.data[0] = float('nan')


@HOOKS.register_module()
class ToyStatistics(Hook):
    """Save a process's own running mean, and the one that it validates."""

    priority = 'HIGHEST'

    def __init__(self, file: str) -> None:
        self.file = file

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self.save(runner, 'own')

    def before_val_iter(self, runner, *args, **kwargs) -> None:
        self.save(runner, 'seen')

    def save(self, runner, name: str) -> None:
        mean = runner.model.module.layers[1].running_mean
        torch.save(mean.clone(), f'{self.file}{get_rank()}.{name}')


@HOOKS.register_module()
class ToyNews(Hook):
    """Print the iterations that are saved, when they are."""

    priority = 'LOWEST'

    def after_train_epoch(self, runner) -> None:
        print('saved', runner.iter, flush=True)


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Read the weights of a checkpoint of this project's own runs."""
    return torch.load(folder / name, weights_only=False)['state_dict']


def assert_equal(one: dict, other: dict) -> None:
    """Require the same weights, bit for bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def _run(args: list[str], log: Path) -> None:
    """Run ``mmsmt`` with its output in a file."""
    from mmsmt import cli

    leave_configs_unformatted()
    number = os.open(log, os.O_CREAT | os.O_WRONLY)
    os.dup2(number, 1)
    os.dup2(number, 2)
    sys.stdout = sys.stderr = os.fdopen(number, 'w', buffering=1)
    cli.main(args)


PRELOAD = [
    *('mmsmt.launch.training', 'mmsmt.hooks', 'mmsmt.runs.loops'),
    *('support.toy', 'mmcv.ops', 'torchvision', 'torch._dynamo'),
    *('matplotlib.pyplot', 'mpl_toolkits.mplot3d'),
]


def start(*args, log: Path):
    """Start ``mmsmt`` in a fork of a warm process.

    Args:
        *args: The command line.
        log: A new file for its output.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_run, args=(list(map(str, args)), log))
    process.start()
    return process


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    path = Path(f'/proc/{pid}/task/{pid}/children')
    return [int(x) for x in path.read_text().split()] if path.exists() else []


def wait_for(words: str, log: Path, process, seconds: float = 60) -> str:
    """Wait until a process has written something; return all it wrote."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = log.read_text() if log.exists() else ''
        if words in text:
            return text
        assert process.is_alive(), text[-3000:]
        time.sleep(0.02)
    raise TimeoutError(text[-3000:])


def write_config(path: Path, by_epoch: bool = True, **changes) -> Path:
    """Write a config of the toy run.

    Args:
        path: The file.
        by_epoch: 3 epochs of 5 iterations, or 15 iterations.
        **changes: More settings, in the notation of ``--cfg-options``.
    """
    from mmengine.config import Config

    data = dict(type='ToyData', pipeline=[dict(type='ToyNoise')])
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    loop = (
        dict(by_epoch=True, max_epochs=3, val_interval=1)
        if by_epoch
        else dict(by_epoch=False, max_iters=15, val_interval=5)
    )
    cfg = Config(
        dict(
            custom_imports=dict(imports=['mmsmt', 'support.toy']),
            default_scope='mmengine',
            model=dict(type='ToyModel'),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                dataset=data,
                sampler=dict(type=sampler, shuffle=True),
            ),
            val_dataloader=dict(
                batch_size=4,
                num_workers=0,
                dataset=dict(data, test_mode=True),
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            val_evaluator=dict(type='ToyMetric'),
            val_cfg=dict(),
            train_cfg=loop,
            optim_wrapper=dict(
                type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01)
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=7),
                dict(
                    type='MultiStepLR',
                    by_epoch=by_epoch,
                    milestones=[2] if by_epoch else [10],
                ),
            ],
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook',
                    by_epoch=by_epoch,
                    interval=1 if by_epoch else 5,
                    save_best='toy/acc',
                ),
                logger=dict(type='LoggerHook', interval=1),
            ),
            randomness=dict(seed=0),
        )
    )
    cfg.merge_from_dict(changes)
    cfg.dump(path)
    return path
