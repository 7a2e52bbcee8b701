"""Save checkpoints so that no crash, full disk or bad weight loses one."""

import math
import shutil
from collections import deque
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import (
    all_gather_object,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmsmt.errors import UserError
from mmsmt.optim import list_schedulers, list_wrappers
from mmsmt.registry import HOOKS
from mmsmt.runs import files
from mmsmt.runs.checkpoints import STOPPED, find_damage
from mmsmt.runs.records import RunRecord
from mmsmt.runs.together import average_buffers, raise_together
from mmsmt.runs.watch import WATCH
from mmsmt.weights.host_models import bare_model, is_sharded


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, without the moments at which one is lost.

    - A checkpoint is written under another name, flushed to disk and checked
      before it gets its name; older ones are removed after that.
    - Weights that are not finite are never saved.
    - Best scores are in ``record.json`` beside the checkpoints. No path that a
      checkpoint names is followed.
    - A resumed run makes up for a validation that was broken off.

    On storage other than the local file system it saves as mmengine does.
    Arguments are those of mmengine's hook.
    """

    _record: RunRecord | None = None
    _saved = -1
    """Iteration of the newest checkpoint that can be resumed."""
    _regular = -1
    """The same, of those that were not stopped."""

    # Start -------------------------------------------------------------------

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gradients: dict[str, Tensor] = {}
        self._buffers: list[dict[str, Tensor]] = []
        self._stopping: dict[str, Any] = {}
        self._validated = False
        self._not_finite: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Find the folder and what an earlier part of the run left in it."""
        info = runner.message_hub.runtime_info
        for key in [key for key in info if key.startswith('best_')]:
            info.pop(key)  # paths of this run or of another
        kept = list(info.pop('keep_ckpt_ids', []))
        super().before_train(runner)
        self.keep_ckpt_ids = deque(kept)
        self._saved = runner.iter
        if not self._local:
            return
        for name, parameter in bare_model(runner.model).named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter)
        if self._buffers:
            own = self._buffers[get_rank()]
            for name, buffer in bare_model(runner.model).named_buffers():
                buffer.copy_(own[name])
        self._gradients, self._buffers = {}, []
        self._restore_stopping(runner)
        self._not_finite = set(_find_not_finite(runner.model))
        folder = Path(self.out_dir)
        if is_main_process():
            folder.mkdir(parents=True, exist_ok=True)
            files.remove_partial_files(folder)
            self._warn_of_space(runner)
        self._remove_oldest()
        self._record = RunRecord(folder, runner.iter)
        for metric in self.key_indicators if self.save_best else ():
            if best := self._record.get(metric):
                self._set_best_path(metric, str(best.path))
        self._make_up_for_validation(runner)

    @property
    def _local(self) -> bool:
        return isinstance(self.file_backend, LocalBackend)

    def _warn_of_space(self, runner: Runner) -> None:
        """Compare what the run will write with the free space."""
        whole, weights = _estimate_sizes(runner)
        total = runner.max_epochs if self.by_epoch else runner.max_iters
        done = runner.epoch if self.by_epoch else runner.iter
        count = (
            math.ceil((total - done) / self.interval)
            if self.interval > 0
            else 1
        )
        if self.max_keep_ckpts > 0:
            count = min(count, self.max_keep_ckpts - len(self.keep_ckpt_ids))
        best = len(self.save_best or ())
        # One more of each kind is there while the old one is kept.
        need = whole * (max(count, 0) + 1) + weights * (best + bool(best))
        free = shutil.disk_usage(self.out_dir).free
        if need > free:
            runner.logger.warning(
                f'The run will write {need / 1e9:.1f} GB of checkpoints, and '
                f"'{self.out_dir}' has {free / 1e9:.1f} GB free. Make room, "
                'or keep fewer: default_hooks.checkpoint.max_keep_ckpts'
            )

    # Saving ------------------------------------------------------------------

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        if not self._local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        name = self.filename_tmpl.format(step)
        if step in self.keep_ckpt_ids:
            self.keep_ckpt_ids.remove(step)
        self.keep_ckpt_ids.append(step)
        if self.max_keep_ckpts > 0:
            # With those that are removed below: a run that is killed before
            # that removes them when it is resumed.
            runner.message_hub.update_info(
                'keep_ckpt_ids', list(self.keep_ckpt_ids)
            )
        self._save_resumable(runner, name, meta, self.by_epoch)
        self._regular = self._saved
        self._remove_oldest()
        if is_main_process():
            Path(self.out_dir, STOPPED).unlink(missing_ok=True)

    def after_train(self, runner: Runner) -> None:
        """Remove what only an unfinished run needs."""
        if paths := getattr(self, 'best_ckpt_path_dict', None):
            found = {key: path for key, path in paths.items() if path}
            self.best_ckpt_path_dict = found  # others cannot be published
        super().after_train(runner)
        stopped = getattr(runner.train_loop, 'stop_training', False)
        finished = self._regular == runner.iter and not stopped
        if self._record and finished and is_main_process():
            Path(self.out_dir, STOPPED).unlink(missing_ok=True)

    def save_stopped(
        self, runner: Runner, meta: dict, validated: bool = False
    ) -> None:
        """Save the run between two regular checkpoints, unless it is saved.

        Args:
            runner (Runner): The runner.
            meta (dict): ``epoch`` and ``iter`` that are finished.
            validated (bool): They are validated too, which is saved anew.
        """
        if meta['iter'] == self._saved and not validated:
            return
        # Each process goes on with its own statistics: the unbroken run does
        # not average them here.
        own = {
            name: buffer.cpu()
            for name, buffer in bare_model(runner.model).named_buffers()
        }
        self._buffers = all_gather_object(own)
        meta['run'] = dict(validated=validated)
        self._save_resumable(runner, STOPPED, meta, by_epoch=False)
        self._buffers = []

    def _save_resumable(
        self, runner: Runner, name: str, meta: dict, by_epoch: bool
    ) -> None:
        loader = runner.train_dataloader
        batch = getattr(loader.batch_sampler, 'batch_size', None)
        run = meta.setdefault('run', {})
        run.update(processes=get_world_size(), batch=batch)
        run['length'] = _length_of(loader)
        last = str(Path(self.out_dir, name))
        runner.message_hub.update_info('last_ckpt', last)
        if name != STOPPED:
            average_buffers(runner)
        self._write(
            runner,
            name,
            meta=meta,
            by_epoch=by_epoch,
            save_optimizer=self.save_optimizer or name == STOPPED,
            save_param_scheduler=self.save_param_scheduler or name == STOPPED,
            **self.args,
        )
        self.last_ckpt = last
        self._saved = meta['iter']
        if is_main_process():
            path = Path(runner.work_dir, 'last_checkpoint')
            files.write_text(path, last)  # for the hosts' tools

    def _write(self, runner: Runner, name: str, **settings: Any) -> None:
        """Write a checkpoint that has its name only when it is whole.

        Raises:
            UserError: The weights are not finite, or the file cannot be
                written.
        """
        path = Path(self.out_dir, name)
        partial = files.partial_path(path)
        error = self._find_bad_weights(runner, name)
        if error is None:
            try:
                WATCH.begin('')
                runner.save_checkpoint(
                    self.out_dir,
                    partial.name,
                    file_client_args=self.file_client_args,
                    backend_args=self.backend_args,
                    **settings,
                )
                if is_main_process():
                    if damaged := find_damage(partial):
                        raise OSError(
                            f'{damaged} in it is not what was written'
                        )
                    files.finish(path)
            except OSError as cause:
                free = shutil.disk_usage(self.out_dir).free
                error = UserError(
                    f"'{path}' cannot be written: {cause}. The disk has "
                    f'{free / 1e9:.2f} GB free. {self._describe_last()} Make '
                    'room, and go on with --resume.'
                )
            finally:
                if is_main_process():
                    partial.unlink(missing_ok=True)
        raise_together(error)

    def _find_bad_weights(self, runner: Runner, name: str) -> UserError | None:
        bad = set(_find_not_finite(runner.model)) - self._not_finite
        if not bad or not is_main_process():
            return None
        return UserError(
            f'{len(bad)} weights are not finite, such as {min(bad)}: '
            f"'{name}' is not saved. {self._describe_last()} Resume it with a "
            'lower learning rate or clipped gradients.'
        )

    def _describe_last(self) -> str:
        if self.last_ckpt is None:
            return 'There is no earlier checkpoint of this run.'
        return f"The last whole checkpoint is '{self.last_ckpt}'."

    def _remove_oldest(self) -> None:
        """Keep the newest ``max_keep_ckpts`` checkpoints."""
        while 0 < self.max_keep_ckpts < len(self.keep_ckpt_ids):
            name = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
            if is_main_process():
                Path(self.out_dir, name).unlink(missing_ok=True)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save what mmengine does not: waiting gradients, early stopping."""
        if 'optimizer' in checkpoint and (hooks := _find_stopping(runner)):
            checkpoint['early_stopping'] = dict(
                hooks=[(hook.wait_count, hook.best_score) for hook in hooks],
                stop=getattr(runner.train_loop, 'stop_training', False),
            )
        if len(self._buffers) > 1:
            checkpoint['buffers'] = self._buffers  # by process
        if is_sharded(runner.model):
            # FSDP's tensors have attributes, which safe loading may refuse.
            for name, value in checkpoint['state_dict'].items():
                checkpoint['state_dict'][name] = value.detach()
        if (
            'optimizer' not in checkpoint
            or _is_between_updates(runner)
            or is_sharded(runner.model)
        ):
            return
        checkpoint['gradients'] = {
            name: parameter.grad.cpu()
            for name, parameter in bare_model(runner.model).named_parameters()
            if parameter.grad is not None
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what each process needs to go on with the training."""
        if not runner._resume:
            return
        run = checkpoint['meta'].get('run') or {}
        self._validated = bool(run.get('validated'))
        self._stopping = checkpoint.get('early_stopping', {})
        self._gradients = checkpoint.get('gradients', {})
        buffers = checkpoint.get('buffers', [])
        if len(buffers) == get_world_size():
            self._buffers = buffers

    def _restore_stopping(self, runner: Runner) -> None:
        hooks = _find_stopping(runner)
        states = self._stopping.get('hooks', [])
        if len(states) == len(hooks) > 0:
            for hook, (count, score) in zip(hooks, states):
                hook.wait_count, hook.best_score = count, score
            stopped = self._stopping['stop']
            patient = all(hook.wait_count < hook.patience for hook in hooks)
            aimless = all(hook.stopping_threshold is None for hook in hooks)
            if stopped and patient and aimless:  # more than before
                stopped = False
            elif stopped:
                runner.logger.warning(
                    'Early stopping has ended this run: nothing is trained. '
                    'To resume it all the same, raise patience of '
                    'EarlyStoppingHook.'
                )
            runner.train_loop.stop_training = stopped

    # Validation --------------------------------------------------------------

    def _make_up_for_validation(self, runner: Runner) -> None:
        """Validate where a killed run would have, before it goes on."""
        due = getattr(runner.train_loop, 'validation_is_due', lambda: False)
        if (
            runner.val_loop is not None
            and not self._validated
            and self._record.validation_is_missing(runner.iter)
            and due()
        ):
            runner.logger.info('The validation that was broken off:')
            runner.val_loop.run()

    def before_val(self, runner: Runner) -> None:
        """Save the run before a validation, which may take long."""
        if self._record is None:
            return
        average_buffers(runner)
        # mmengine's FlexibleRunner counts positions in its own way.
        if isinstance(runner, Runner):
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            self.save_stopped(runner, meta)

    def after_val(self, runner: Runner) -> None:
        """Record that the run is validated, and save what that changed."""
        if self._record is None:
            return
        # Early stopping counts, and a learning rate may follow the metric.
        if isinstance(runner, Runner) and _follows_validation(runner):
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            self.save_stopped(runner, meta, validated=True)
        self._record.finish_validation(runner.iter)

    def _save_best_checkpoint(
        self, runner: Runner, metrics: dict[str, float]
    ) -> None:
        if self._record is None or not self.save_best:
            super()._save_best_checkpoint(runner, metrics)
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        step = runner.epoch if self.by_epoch else runner.iter
        for metric in self.key_indicators:
            best = self._record.get(metric)
            score = metrics.get(metric)
            if score is None:
                runner.logger.warning(
                    f'save_best: the validation gives no {metric!r}.'
                )
            elif math.isfinite(score) and (
                best is None or self.is_better_than[metric](score, best.score)
            ):
                self._save_best(runner, metric, score, step)

    def _save_best(
        self, runner: Runner, metric: str, score: float, step: int
    ) -> None:
        name = f'best_{metric}_{self.filename_tmpl.format(step)}'
        name = name.replace('/', '_')
        self._write(
            runner,
            name,
            meta=dict(epoch=runner.epoch, iter=runner.iter),
            by_epoch=False,
            save_optimizer=False,
            save_param_scheduler=False,
        )
        self._record.set_best(metric, score, name)
        self._set_best_path(metric, str(Path(self.out_dir, name)))
        unit = 'epoch' if self.by_epoch else 'iteration'
        runner.logger.info(
            f'The best checkpoint, with {metric} {score:.4f} at {unit} '
            f"{step}, is '{name}'."
        )

    def _set_best_path(self, metric: str, path: str) -> None:
        """Name what mmengine publishes at the end."""
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = path
        else:
            self.best_ckpt_path_dict[metric] = path


def _length_of(loader: Any) -> int | None:
    """Return the number of batches of a loader, None if it has none."""
    try:
        return len(loader)
    except TypeError:  # of a dataset that is a stream
        return None


def _find_stopping(runner: Runner) -> list[EarlyStoppingHook]:
    return [h for h in runner.hooks if isinstance(h, EarlyStoppingHook)]


def _follows_validation(runner: Runner) -> bool:
    """Check for state that a validation changes."""
    schedulers = list_schedulers(runner.param_schedulers)
    return bool(_find_stopping(runner)) or any(
        getattr(scheduler, 'need_val_args', False) for scheduler in schedulers
    )


def _is_between_updates(runner: Runner) -> bool:
    """Return True if no gradients wait for a later update."""
    return all(
        not isinstance(wrapper, OptimWrapper) or wrapper.should_update()
        for wrapper in list_wrappers(runner.optim_wrapper)
    )


def _find_not_finite(model: nn.Module) -> list[str]:
    """Return the names of weights and statistics with inf or NaN."""
    bare = bare_model(model)
    own = [
        name.replace('_fsdp_wrapped_module.', '')
        for name, value in (*bare.named_parameters(), *bare.named_buffers())
        if value.is_floating_point() and not torch.isfinite(value).all()
    ]
    # Another process may have another part of the model.
    return sum(all_gather_object(own), []) if is_sharded(model) else own


def _estimate_sizes(runner: Runner) -> tuple[int, int]:
    """Return the bytes of a whole checkpoint and of one of weights alone."""
    model = bare_model(runner.model)
    tensors = (*model.parameters(), *model.buffers())
    parts = get_world_size() if is_sharded(runner.model) else 1
    weights = parts * sum(v.nbytes for v in tensors)
    if any(hasattr(hook, 'ema_model') for hook in runner.hooks):
        weights *= 2
    state = 0
    wrappers = list_wrappers(runner.optim_wrapper)
    for group in chain(*(wrapper.param_groups for wrapper in wrappers)):
        # Adam and its kin keep two values, SGD one if it has momentum.
        values = 2 if 'betas' in group else bool(group.get('momentum'))
        state += values * parts * sum(p.nbytes for p in group['params'])
    return weights + state, weights
