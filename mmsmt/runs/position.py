"""Random numbers that depend on the seed and the position in a run alone.

A resumed run sees what the unbroken one would have seen, whatever loader
workers had drawn ahead.
"""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader


def seed_generators(*position: int, cuda: bool = True) -> None:
    """Seed the generators of Python, NumPy and torch.

    Args:
        *position (int): Seed, rank, iteration, and what else tells this place
            in a run from others.
        cuda (bool): Also torch's generators on GPUs.
    """
    words = np.random.SeedSequence(position).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    seed = int(words[2]) << 32 | int(words[3])
    if cuda:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


class SeededBatch(list):
    """Indices of a batch; to iterate over them seeds each sample.

    The loader fetches ``[dataset[i] for i in batch]``, in this process or a
    worker: the generators are seeded just before each sample is read.

    Args:
        indices (list[int]): Indices of the samples.
        position (tuple[int, ...]): Position of the batch in the run.
    """

    def __init__(self, indices: list[int], position: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.position = position

    def __iter__(self) -> Iterator[int]:
        for number, index in enumerate(super().__iter__()):
            seed_generators(*self.position, number, cuda=False)
            yield index

    def __reduce__(self) -> tuple:
        return SeededBatch, (list(super().__iter__()), self.position)


class PositionedSampler:
    """Batch sampler that starts at any position of a run.

    Args:
        batches (Iterable): The loader's own batch sampler.
        seed (int): Seed of the run.
        rank (int): Rank of this process.
        endless (bool): Begin again at the end, without a new start of the
            loader's workers.
    """

    def __init__(
        self, batches: Any, seed: int, rank: int, endless: bool
    ) -> None:
        self.batches = batches
        self._seed, self._rank, self._endless = seed, rank, endless
        self.iteration = 0
        """Iteration of the first batch, with those that are left out."""
        self.skip = 0
        """Batches to leave out; their samples are not read."""
        self.paused = False
        """Yield nothing: workers start, but do not read ahead."""

    def __getattr__(self, name: str) -> Any:
        if name == 'batches':  # not set yet
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[SeededBatch]:
        number, first = self.iteration, self.iteration + self.skip
        for epoch in itertools.count():
            if self.paused:
                return
            start = number
            # A sampler without a seed draws one here.
            seed_generators(self._seed, self._rank, number)
            for batch in self.batches:
                if number >= first:
                    position = self._seed, self._rank, number
                    yield SeededBatch(batch, position)
                number += 1
            if not self._endless or number == start:
                return
            for owner in (self.batches, getattr(self, 'sampler', None)):
                if hasattr(owner, 'set_epoch'):
                    owner.set_epoch(epoch + 1)


def position_loader(
    loader: DataLoader, seed: int, rank: int, endless: bool = False
) -> PositionedSampler | None:
    """Make a loader's samples depend on their position in the run.

    Args:
        loader (DataLoader): The loader, changed in place.
        seed (int): Seed of the run.
        rank (int): Rank of this process.
        endless (bool): Begin again at the end of the data.

    Returns:
        PositionedSampler | None: The loader's new batch sampler; None for a
        loader without one, whose samples are not seeded.
    """
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        return None
    sampler = PositionedSampler(loader.batch_sampler, seed, rank, endless)
    # A DataLoader refuses to have it replaced, as its workers would not see
    # it: indices are drawn in this process.
    object.__setattr__(loader, 'batch_sampler', sampler)
    return sampler
