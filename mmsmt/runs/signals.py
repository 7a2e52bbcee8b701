"""Stop a run on a signal when its state is consistent."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from torch.utils.data import DataLoader

SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    *(
        getattr(signal, name)
        for name in ('SIGUSR1', 'SIGUSR2', 'SIGHUP')
        if hasattr(signal, name)
    ),
)
"""Signals that save the run: schedulers warn by the last ones."""
REPEATED = 5.0
"""Seconds in which further signals count as the first."""
ORPHANED = 3.0
"""Seconds after which a worker ends whose parent was killed."""


class StopRun(SystemExit):
    """Exit that a signal asked for; its code is the shell's for the signal."""


class Stopper:
    """Record of the first signal that this process received.

    While ``at_once`` is set, a signal raises :class:`StopRun` where it
    arrives; otherwise the run asks for ``number`` where it can stop.
    """

    def __init__(self) -> None:
        self.number = 0
        """The first signal, 0 if there was none."""
        self.at_once = True
        self._time = 0.0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals in this context."""
        self.number, self.at_once = 0, True
        if threading.current_thread() is not threading.main_thread():
            yield  # Python handles signals in the main thread only
            return
        before = {
            number: signal.signal(number, self._handle)
            for number in SIGNALS
            # nohup ignores SIGHUP, and programs use SIGUSR1 and SIGUSR2.
            if number in SIGNALS[:2]
            or signal.getsignal(number) is signal.SIG_DFL
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number, self._time = number, time.monotonic()
            if self.at_once:
                self.stop()
        elif time.monotonic() - self._time >= REPEATED:
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(128 + number)

    def act_at_once(self, at_once: bool) -> None:
        """Choose whether signals act where they arrive, now and later."""
        self.at_once = at_once
        if at_once and self.number:
            self.stop()

    def stop(self) -> None:
        """End the run, also if it is called more than once.

        Raises:
            StopRun: Always; its code is that of the signal.
        """
        raise StopRun(128 + self.number)


STOPPER = Stopper()
"""The one of this process."""


def shield_workers(loader: DataLoader) -> None:
    """Let a loader's workers obey SIGTERM from their parent only.

    A scheduler sends its signals to all processes of a job. The workers are
    started under :func:`blocked`. They end when their parent was killed;
    PyTorch's may wait for ever to hand it a batch, and keep its memory.

    Args:
        loader (DataLoader): The loader, changed in place.
    """
    if hasattr(signal, 'sigtimedwait'):  # not on macOS
        loader.worker_init_fn = partial(_shield, loader.worker_init_fn)


def _shield(then: Callable[[int], None] | None, number: int) -> None:
    """Begin a worker: wait in a thread for its parent's SIGTERM or end."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            received = signal.sigtimedwait([signal.SIGTERM], ORPHANED)
            if received and received.si_pid == parent:
                break
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    if then is not None:
        then(number)


@contextmanager
def blocked() -> Iterator[None]:
    """Start a loader's workers deaf to the signals."""
    if not hasattr(signal, 'sigtimedwait'):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
