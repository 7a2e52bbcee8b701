"""Record a rehearsed run, and kill it once."""

import json
import math
import os
import signal
import time
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner


class ProbeHook(Hook):
    """Hook that records each iteration, and kills the run once.

    The run is killed in its second half, as soon as there is a checkpoint to
    resume from.

    Args:
        path (str): File for one line of JSON per iteration.
    """

    priority = 'VERY_HIGH'

    def __init__(self, path: str) -> None:
        self.path = path
        self.started = 0.0

    def before_train_iter(
        self, runner: Runner, *args: Any, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Record learning rate, loss, seconds and memory."""
        loss = float(outputs['loss'])
        cuda = torch.cuda.is_available()
        done = runner.iter + 1
        self._record(
            iteration=runner.iter,
            of=runner.max_iters,
            lr=runner.optim_wrapper.param_groups[0]['lr'],
            loss=loss,
            seconds=time.perf_counter() - self.started,
            gpu=torch.cuda.max_memory_reserved() if cuda else 0,
        )
        if not math.isfinite(loss):
            raise FloatingPointError(f'the loss is {loss}')
        if done == runner.max_iters:
            self._record(idle=find_idle_parameters(runner))
        saved = Path(runner.work_dir, 'last_checkpoint').is_file()
        if done > runner.max_iters // 2 and saved and not runner._resume:
            os.kill(os.getpid(), signal.SIGKILL)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Record the metrics."""
        self._record(
            metrics={
                name: float(value)
                for name, value in metrics.items()
                if isinstance(value, Real)
            }
        )

    def _record(self, **record: Any) -> None:
        with open(self.path, 'a') as file:
            file.write(json.dumps(record) + '\n')


def find_idle_parameters(runner: Runner) -> list[str]:
    """Return the trained parameters that never had a gradient.

    DDP raises an error for these in the second iteration. The optimizer has no
    state for them.
    """
    state = getattr(runner.optim_wrapper.optimizer, 'state', {})
    return [
        name
        for name, param in runner.model.named_parameters()
        if state and param.requires_grad and param not in state
    ]
