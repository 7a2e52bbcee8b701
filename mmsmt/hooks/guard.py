"""Stop a run on a signal, or when its losses are no longer finite."""

import math
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    barrier,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmsmt.errors import UserError
from mmsmt.optim import list_wrappers
from mmsmt.registry import HOOKS
from mmsmt.runs.signals import STOPPER
from mmsmt.runs.together import raise_together
from mmsmt.runs.watch import WATCH

from .saving import SafeCheckpointHook


class NotFiniteError(UserError):
    """Error for losses or gradients with inf or NaN."""


@HOOKS.register_module()
class GuardHook(Hook):
    """Hook that ends a run when a signal or a bad loss asks for it.

    SIGTERM and SIGINT save a checkpoint after the iteration in which they
    arrive; all processes stop after the same one. An update with gradients
    that are not finite is left out, and after ``patience`` such iterations in
    a row the run stops; those that a loss scaler leaves out do not count.

    Args:
        patience (int): Iterations in a row with a loss or gradients that are
            not finite, after which the run stops. Defaults to 1.
        timeout (float): Seconds that reading a batch, or an iteration, may
            take where there are several processes; then the run ends and
            names the one that hangs. 0 for any time. Defaults to 300.
            Validation and saving may take as long as
            ``env_cfg.dist_cfg.timeout`` says, 3 hours by default.
    """

    priority = 'LOWEST'

    def __init__(self, patience: int = 1, timeout: float = 300) -> None:
        if patience < 1:
            raise ValueError(f'patience must be at least 1, not {patience}')
        self.patience = patience
        self.timeout = timeout
        self._bad = 0
        self._norm: Tensor | None = None
        self._left_out = False
        self._training = False

    def before_train(self, runner: Runner) -> None:
        """Watch the optimizer's steps; let signals wait for their end."""
        # Hooks of the optimizer itself are off once torch 2.1 has compiled.
        for wrapper in list_wrappers(runner.optim_wrapper):
            if isinstance(wrapper, OptimWrapper):
                step = wrapper.step
                wrapper.step = partial(self._step, runner, wrapper, step)
        WATCH.start(self.timeout)
        STOPPER.act_at_once(False)

    def after_train(self, runner: Runner) -> None:
        """Let signals act at once again."""
        WATCH.stop()
        STOPPER.act_at_once(True)

    def before_val(self, runner: Runner) -> None:
        """Let signals act at once, as the run is saved."""
        self._training = not STOPPER.at_once
        STOPPER.act_at_once(True)

    def after_val(self, runner: Runner) -> None:
        """Let signals wait again, if the training goes on."""
        STOPPER.act_at_once(not self._training)

    def _step(
        self,
        runner: Runner,
        wrapper: OptimWrapper,
        step: Callable[..., None],
        **kwargs: Any,
    ) -> None:
        """Update the weights, unless gradients are not finite."""
        groups = wrapper.optimizer.param_groups
        parameters = [p for group in groups for p in group['params']]
        self._norm = _total_norm([p.grad for p in parameters])
        scaler = _find_scaler(wrapper)
        if scaler is not None:  # it leaves the update out by itself
            self._norm = self._norm / scaler.get_scale()
        elif not torch.isfinite(self._norm):
            self._left_out = True
            for parameter in parameters:
                parameter.grad = None
        step(**kwargs)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping | None = None,
    ) -> None:
        """Stop the run if a signal or its losses ask for it.

        Raises:
            NotFiniteError: Losses or gradients were not finite ``patience``
                times in a row.
            StopRun: A signal arrived, and the run is saved.
        """
        loss = float(torch.as_tensor((outputs or {}).get('loss', 0)).detach())
        bad = self._left_out or not math.isfinite(loss)
        self._left_out = False
        state = torch.tensor([STOPPER.number, int(bad)])
        all_reduce(state, op='max')  # the same decision in all processes
        number, bad = state.tolist()
        if not bad:
            self._bad = 0
        # A scaler that has come down below 1 does not help.
        elif _lowest_scale(runner) < 1:
            self._bad += 1
            if self._bad >= self.patience:
                self._fail(runner, loss, _find_images(data_batch))
        if number:
            self._stop(runner, number)

    def _stop(self, runner: Runner, number: int) -> None:
        """Save the run and end it."""
        STOPPER.number = STOPPER.number or number
        saving = _find_saving(runner)
        iteration = runner.iter + 1
        if saving is not None:
            meta = dict(epoch=runner.epoch, iter=iteration)
            saving.save_stopped(runner, meta)
        barrier()  # the first process writes
        if is_main_process():
            saved = saving and f"saved as '{saving.last_ckpt}': --resume"
            runner.logger.info(
                f'Stopped by {signal.Signals(number).name} after iteration '
                f'{iteration}; {saved or "nothing saves checkpoints"}'
            )
        STOPPER.stop()

    def _fail(self, runner: Runner, loss: float, images: list[str]) -> None:
        """End the run with what is known about the bad iteration."""
        found = all_gather_object((loss, images))
        lines = [
            f'process {rank}: loss {loss:g}, {", ".join(images) or "images?"}'
            for rank, (loss, images) in enumerate(found)
        ]
        saving = _find_saving(runner)
        lr = max(
            group['lr']
            for wrapper in list_wrappers(runner.optim_wrapper)
            for group in wrapper.param_groups
        )
        norm = 'unknown' if self._norm is None else f'{float(self._norm):g}'
        last = saving and saving.last_ckpt
        raise_together(
            NotFiniteError(
                'Losses or gradients are not finite in iteration '
                f'{runner.iter + 1} (epoch {runner.epoch + 1}): learning rate '
                f'{lr:g}, gradient norm {norm}. The batch was\n    '
                + '\n    '.join(lines)
                + f'\nThe last good checkpoint is {last or "none"}. What '
                'usually helps: a lower learning rate or a longer warm-up; '
                'clipped gradients, optim_wrapper.clip_grad="{max_norm:1}"; '
                'bfloat16 or float32 in place of float16; mmsmt check for '
                'boxes and masks without area. To go on after some, set '
                'patience of mmsmt.GuardHook.'
            )
            if is_main_process()
            else None
        )


def _total_norm(gradients: Sequence[Tensor | None]) -> Tensor:
    """Return the norm of all gradients together."""
    norms = [
        torch.linalg.vector_norm(grad.detach().float())
        for grad in gradients
        if grad is not None
    ]
    if not norms:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(norms))


def _find_scaler(wrapper: OptimWrapper) -> torch.cuda.amp.GradScaler | None:
    """Return what scales the losses; None if nothing does."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    return scaler if scaler is not None and scaler.is_enabled() else None


def _lowest_scale(runner: Runner) -> float:
    """Return by what losses are multiplied, 0 if by nothing."""
    scalers = map(_find_scaler, list_wrappers(runner.optim_wrapper))
    return min((one.get_scale() for one in scalers if one), default=0.0)


def _find_saving(runner: Runner) -> SafeCheckpointHook | None:
    hooks = (h for h in runner.hooks if isinstance(h, SafeCheckpointHook))
    return next(hooks, None)


def _find_images(batch: Any) -> list[str]:
    """Return the files of a batch's images."""
    if not isinstance(batch, Mapping):
        return []
    samples = batch.get('data_samples') or ()
    paths = [getattr(sample, 'img_path', None) for sample in samples]
    paths = paths or batch.get('img_path') or []
    return [f"'{path}'" for path in paths if path]
