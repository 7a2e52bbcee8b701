"""End a run of several processes when one of them hangs, and name it."""

import os
import sys
import threading
import time

import torch
from mmengine.dist import get_rank, get_world_size

BEAT = 2.0
"""Seconds between two signs of life, but at most a quarter of the limit."""
FIRST = 6
"""Factor of the time that the first iteration may take: it may compile."""
ASLEEP = 10
"""Factor of a beat after which the process itself was suspended."""


class Watch:
    """Watch the time of each part of an iteration, in all processes.

    A thread in each process tells the others what it does. Where one part
    takes too long, they are compared: a process that gives no sign of life, or
    is behind the others, is the one that hangs.
    """

    def __init__(self) -> None:
        self._what = ''
        self._iteration = 0
        self._since = time.monotonic()
        self._seconds = 0.0
        self._first = True
        self._stop = threading.Event()

    def start(self, seconds: float) -> None:
        """Watch this process's iterations, if there are others.

        Args:
            seconds (float): Time that a part of an iteration may take.
        """
        self._stop.set()
        if get_world_size() == 1 or not seconds:
            return
        self._stop, self._seconds = threading.Event(), seconds
        self._what, self._iteration, self._first = '', 0, True
        store = torch.distributed.PrefixStore(
            'mmsmt', torch.distributed.distributed_c10d._get_default_store()
        )
        arguments = store, self._stop
        threading.Thread(target=self._run, args=arguments, daemon=True).start()

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()

    def begin(self, what: str, iteration: int = 0) -> None:
        """Begin a part of an iteration; '' for what may take any time.

        Args:
            what (str): The part.
            iteration (int): Number of the iteration.
        """
        if iteration > self._iteration:
            self._first = self._iteration == 0
        self._what, self._iteration = what, iteration or self._iteration
        self._since = time.monotonic()

    def _run(
        self, store: torch.distributed.Store, stop: threading.Event
    ) -> None:
        rank, world = get_rank(), get_world_size()
        self._give_sign(store, rank)
        store.add(f'{rank} started', 1)
        while True:
            self._give_sign(store, rank)
            limit = self._seconds * (FIRST if self._first else 1)
            if self._what and time.monotonic() - self._since > limit:
                message = self._compare(store, rank, world)
                if time.monotonic() - self._since <= limit:
                    continue  # it went on meanwhile
                if store.add('found', 1) == 1:
                    print(f'\nError: {message}', file=sys.stderr, flush=True)
                os._exit(1)
            begin = time.monotonic()
            if stop.wait(self._beat):
                return
            if time.monotonic() - begin > ASLEEP * self._beat:
                self._since = time.monotonic()  # all was suspended

    @property
    def _beat(self) -> float:
        return min(BEAT, self._seconds / 4)

    def _give_sign(self, store: torch.distributed.Store, rank: int) -> None:
        what = self._what or 'else'
        store.set(str(rank), f'{time.monotonic()} {self._iteration} {what}')

    def _compare(
        self, store: torch.distributed.Store, rank: int, world: int
    ) -> str:
        """Find out which process holds up the others."""
        others = [i for i in range(world) if i != rank]
        before = {i: _read(store, i) for i in others}
        for _ in range(4):
            time.sleep(self._beat)
            self._give_sign(store, rank)  # another may compare too
        after = {i: _read(store, i) for i in others}
        silent = [i for i in others if before[i] == after[i]]
        after[rank] = ['', str(self._iteration), self._what]
        text = (
            f'An iteration takes more than {self._seconds:g} s (timeout of '
            'mmsmt.GuardHook). '
        )
        if silent:
            return (
                f'{text}Process {_join(silent)} gives no sign of life: it is '
                'stopped, or its machine is gone.'
            )
        position = {
            i: (int(words[1]), words[2] == 'computing')
            for i, words in after.items()
        }
        first = min(position.values())
        behind = [i for i in sorted(position) if position[i] == first]
        if len(behind) == world:
            return (
                f'{text}All processes are in iteration {first[0]} '
                f'({after[rank][2]}): they wait for each other, or for the '
                'network between them.'
            )
        return (
            f'{text}Process {_join(behind)} hangs in iteration {first[0]} '
            f'({after[behind[0]][2]}), and the others wait for it.'
        )


WATCH = Watch()
"""The one of this process."""


def _read(store: torch.distributed.Store, rank: int) -> list[str]:
    # Stores of torch 2.1 have no check(), and their get() waits.
    if store.add(f'{rank} started', 0) == 0:
        return ['', '0', 'starting']
    return store.get(str(rank)).decode().split(' ', 2)


def _join(ranks: list[int]) -> str:
    return ', '.join(map(str, ranks))
