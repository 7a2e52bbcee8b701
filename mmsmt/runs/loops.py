"""Training loops that can stop after any iteration, and go on from there."""

import itertools
from collections.abc import Iterator
from typing import Any

from mmengine.dist import get_rank
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from mmsmt.registry import LOOPS

from .collection import end_pause
from .explain import explain_loading, explain_memory, name_files
from .kept import drop_content
from .position import PositionedSampler, position_loader, seed_generators
from .signals import blocked, shield_workers
from .watch import WATCH


class _Position(BaseLoop):
    """Part of the loops: random numbers depend on the position alone."""

    runner: Any
    dataloader: DataLoader
    _iter: int
    _positioned: PositionedSampler | None
    _loading: Iterator[Any] | None = None

    def _prepare(self, runner: Any, loader: DataLoader, endless: bool) -> None:
        """Prepare the loader; called when it is built."""
        name_files(loader)
        shield_workers(loader)
        self._positioned = position_loader(
            loader, runner.seed, get_rank(), endless
        )

    def _batches(self, skip: int) -> Iterator[Any]:
        """Start the loader's workers, and yield the rest of its batches.

        Args:
            skip (int): Batches to leave out; their samples are not read.
        """
        if self._positioned is not None:
            self._positioned.iteration = self._iter - skip
            self._positioned.skip = skip
        with blocked():
            self._loading = iter(self.dataloader)
        left = skip if self._positioned is None else 0
        batches = itertools.islice(self._loading, left, None)
        while True:
            WATCH.begin('loading', self._iter + 1)
            batch = next(batches, self)
            WATCH.begin('')
            if batch is self:
                return
            yield batch

    def run(self) -> Any:
        """Train, and end the loader's workers."""
        drop_content()  # all datasets are read
        end_pause()
        try:
            with explain_loading():  # a worker may end while this computes
                return super().run()
        finally:
            # Left to the garbage collector, each takes five seconds to end.
            if hasattr(self._loading, '_shutdown_workers'):
                self._loading._shutdown_workers()

    def run_iter(self, *args: Any) -> None:
        """Iterate one batch."""
        seed_generators(self.runner.seed, get_rank(), self._iter)
        WATCH.begin('computing', self._iter + 1)
        with explain_memory(args[-1]):
            super().run_iter(*args)
        WATCH.begin('')


@LOOPS.register_module()
class EpochTrainLoop(_Position, EpochBasedTrainLoop):
    """Epoch-based training that resumes in the middle of an epoch.

    Arguments are those of mmengine's ``EpochBasedTrainLoop``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._prepare(self.runner, self.dataloader, endless=False)

    def run_epoch(self) -> None:
        """Iterate one epoch, or the rest of a broken-off one."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        if not 0 <= done <= len(self.dataloader):
            self.runner.logger.warning(
                'The epoch had another number of batches when the run was '
                'stopped: it starts again.'
            )
            done = 0
        for index, batch in enumerate(self._batches(done), done):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def validation_is_due(self) -> bool:
        """Return True if a validation follows where the run is now."""
        if self._iter != self._epoch * len(self.dataloader):
            return False
        self._decide_current_val_interval()
        return self._epoch >= self.val_begin and (
            self._epoch % self.val_interval == 0
            or self._epoch == self._max_epochs
        )


@LOOPS.register_module()
class IterTrainLoop(_Position, IterBasedTrainLoop):
    """Iteration-based training that resumes without reading what it skips.

    Arguments are those of mmengine's ``IterBasedTrainLoop``.
    """

    def __init__(
        self, runner: Any, dataloader: DataLoader | dict, *args: Any, **kw: Any
    ) -> None:
        loader: Any = dataloader
        if isinstance(dataloader, dict):
            loader = runner.build_dataloader(
                dataloader,
                seed=runner.seed,
                diff_rank_seed=runner._randomness_cfg.get(
                    'diff_rank_seed', False
                ),
            )
        self._prepare(runner, loader, endless=True)
        # mmengine may start the workers at once, before a run is resumed.
        if self._positioned is not None:
            self._positioned.paused = True
        with blocked():
            super().__init__(runner, loader, *args, **kw)
        # It would begin the data anew, where nothing needs to be read.
        self.fast_forward_on_resume = False
        if self._positioned is not None:
            self._positioned.paused = False
            self.dataloader_iterator = _Endless(self)

    def validation_is_due(self) -> bool:
        """Return True if a validation follows where the run is now."""
        self._decide_current_val_interval()
        return self._iter >= self.val_begin and (
            self._iter % self.val_interval == 0
            or self._iter == self._max_iters
        )


class _Endless:
    """Batches without end, from any iteration of a run."""

    def __init__(self, loop: IterTrainLoop) -> None:
        self._loop = loop
        self._batches: Iterator[Any] | None = None
        self._skipped = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def skip_iter(self, iterations: int) -> None:
        """Leave out what was trained: the sampler knows the position."""
        self._skipped = iterations

    def __next__(self) -> Any:
        done = self._loop.iter
        if self._batches is None and self._skipped < done:
            self._skipped += 1  # some versions of mmengine advance it so
            return None
        if self._batches is None:
            self._batches = self._loop._batches(done)
        return next(self._batches)
