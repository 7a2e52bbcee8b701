"""Find images that a model is both trained on and tested with."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mmsmt.runs.files import hash_file
from mmsmt.weights.reading import summarize

from .findings import Findings
from .summary import Summary

MOST = 20_000
"""Number of images up to which those of two datasets are compared."""
BLOCK = 4096
"""Size of the part of a file that is compared first, in bytes."""


def check_shared(summaries: Mapping[str, Summary], findings: Findings) -> None:
    """Warn of images for validation or testing that are trained on too.

    Args:
        summaries (Mapping[str, Summary]): Contents by split.
        findings (Findings): Extended in place.
    """
    trained = summaries.get('train') or Summary()
    done: list[str] = []
    for split in ('val', 'test'):
        tested = summaries.get(split) or Summary()
        if tested.paths == done or trained.images + tested.images > MOST:
            continue
        done = tested.paths
        shared = find_shared(trained.paths, tested.paths)
        if shared:
            names = summarize((f"'{path}'" for path in shared), 3)
            findings.warn(
                f'{split}_dataloader',
                f'{len(shared)} of {tested.images} images are among those of '
                f'train_dataloader, as the same files or as copies: {names}',
                'Scores on them tell nothing about other images: take them '
                'out of one of the two.',
            )


def find_shared(trained: Iterable[str], tested: Iterable[str]) -> list[str]:
    """Return the files of one list whose bytes are in another.

    Whole files are read only if they have one size and one block in common.

    Args:
        trained (Iterable[str]): The other list.
        tested (Iterable[str]): Files, sorted in the result.
    """
    old, new = _stat(trained), _stat(tested)
    same = {(found.st_dev, found.st_ino) for found in old.values()}
    shared = {
        path
        for path, found in new.items()
        if (found.st_dev, found.st_ino) in same
    }
    sizes = {path: found.st_size for path, found in {**old, **new}.items()}
    rest = new.keys() - shared
    first, second = set(old), set(rest)
    keys: tuple[Callable[[str], object], ...] = (
        sizes.__getitem__,
        lambda path: (sizes[path], _read_block(path, sizes[path])),
        _digest,
    )
    for key in keys:
        ours = {path: key(path) for path in first}
        theirs = {path: key(path) for path in second}
        both = set(ours.values()) & set(theirs.values())
        first = {path for path, value in ours.items() if value in both}
        second = {path for path, value in theirs.items() if value in both}
    return sorted(shared | second)


def _stat(paths: Iterable[str]) -> dict[str, os.stat_result]:
    """Return the state of each file that is not empty."""
    states = {}
    for path in paths:
        with contextlib.suppress(OSError):  # reported elsewhere
            found = os.stat(path)
            if found.st_size:
                states[path] = found
    return states


def _read_block(path: str, size: int) -> bytes:
    """Return the middle of a file; empty if it cannot be read."""
    with contextlib.suppress(OSError), open(path, 'rb') as file:
        file.seek(max(0, (size - BLOCK) // 2))
        return hashlib.blake2b(file.read(BLOCK), digest_size=16).digest()
    return b''


def _digest(path: str) -> str:
    """Return a hash of a file; its name if it cannot be read."""
    try:
        return hash_file(Path(path))
    except OSError:
        return path
