"""Look at many files with all cores, behind a progress bar."""

import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmsmt.environment import count_cores

FEW = 2000
"""Number of files for which no processes are started."""
MOST = 16
"""Most processes that read ahead."""
LARGE = 20
"""Size of a file, in MiB, from which a wait is shown."""


def map_files(
    function: Callable[[Any], Any], items: Sequence[Any], title: str
) -> list[Any]:
    """Call a function for every item, in several processes if many.

    Args:
        function (Callable): A function of a module, called with an item.
        items (Sequence): The items.
        title (str): Title of the progress bar, which a terminal shows.

    Returns:
        list: The results, in the order of the items.
    """
    few = len(items) < FEW
    if few or 'fork' not in multiprocessing.get_all_start_methods():
        return list(show_progress(map(function, items), len(items), title))
    context = multiprocessing.get_context('fork')
    with context.Pool(count_cores()) as pool:
        results = pool.imap(function, items, chunksize=256)
        return list(show_progress(results, len(items), title))


class Ahead:
    """Results of a function, computed while this process does other work.

    The other processes send them in one piece at the end: this one may be
    long in code that does not release the interpreter, such as json's.

    Args:
        function (Callable): A function of a module, called with an item.
        items (Sequence): The items; with few of them nothing is done.
    """

    def __init__(
        self, function: Callable[[Any], Any], items: Sequence[Any]
    ) -> None:
        self.parts: list[tuple[Sequence[Any], Any, Any]] = []
        few = len(items) < FEW
        if few or 'fork' not in multiprocessing.get_all_start_methods():
            return
        context = multiprocessing.get_context('fork')
        count = max(1, min(count_cores() - 1, MOST))
        for part in (items[i::count] for i in range(count)):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_send_results, args=(sender, function, part)
            )
            process.daemon = True
            process.start()
            sender.close()
            self.parts.append((part, receiver, process))

    def collect(self, wanted: Iterable[Any], title: str) -> dict[Any, Any]:
        """Wait for the results; end the processes.

        Args:
            wanted (Iterable): Items whose results are needed. If they are
                less than half of all, there is no wait.
            title (str): Title of the wait, which a terminal shows.

        Returns:
            dict: Results by item; of a part of them if a process failed.
        """
        known = {item for part, *_ in self.parts for item in part}
        results: dict[Any, Any] = {}
        if len(known.intersection(wanted)) * 2 >= len(known):
            with show_status(title):
                for part, receiver, _ in self.parts:
                    with contextlib.suppress(EOFError, OSError):
                        results.update(zip(part, receiver.recv()))
        self.stop()
        return results

    def stop(self) -> None:
        """End the processes."""
        for _, receiver, process in self.parts:
            receiver.close()
            process.terminate()
            process.join()
        self.parts = []


def _send_results(
    sender: Any, function: Callable[[Any], Any], items: Sequence[Any]
) -> None:
    sender.send([function(item) for item in items])


@contextlib.contextmanager
def show_wait(path: Path) -> Iterator[None]:
    """Show in a terminal that a large file is read."""
    size = path.stat().st_size / 2**20
    if size < LARGE:
        yield
        return
    with show_status(f'Reading {path.name}, {size:.0f} MiB'):
        yield


@contextlib.contextmanager
def show_status(text: str) -> Iterator[None]:
    """Show in a terminal what is waited for."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


def show_progress(
    results: Iterable[Any], total: int | None, title: str, few: int = FEW
) -> Iterator[Any]:
    """Yield results behind a progress bar, if a terminal shows it.

    Args:
        results (Iterable): The results, as they come.
        total (int, optional): Their number, None if it is unknown.
        title (str): Title of the bar.
        few (int): Number below which there is none.
    """
    small = total is not None and total < few
    if small or not sys.stderr.isatty():
        yield from results
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(
        results,
        description=title,
        total=total,
        console=Console(stderr=True),
        transient=True,
    )
