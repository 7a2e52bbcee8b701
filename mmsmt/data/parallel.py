"""Look at many files with all cores, behind a progress bar."""

import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmsmt.environment import count_cores

FEW = 2000
"""Number of files for which no processes are started."""
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


@contextlib.contextmanager
def show_wait(path: Path) -> Iterator[None]:
    """Show in a terminal that a large file is read."""
    size = path.stat().st_size / 2**20
    if size < LARGE or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f'Reading {path.name}, {size:.0f} MiB'):
        yield


def show_progress(results: Any, total: int, title: str) -> Any:
    """Yield results behind a progress bar, if a terminal shows it."""
    if total < FEW or not sys.stderr.isatty():
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
