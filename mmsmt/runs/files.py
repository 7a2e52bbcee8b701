"""Replace files in one step: after a crash the old or the new one is there."""

import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmsmt.errors import UserError

PARTIAL = '.partial'
"""Suffix of a file that is being written."""


def partial_path(path: Path) -> Path:
    """Return the name under which a file is written before it is whole."""
    return path.with_name(path.name + PARTIAL)


def finish(path: Path) -> None:
    """Move a partial file to its name, once it is on disk.

    Args:
        path (Path): The name; the content is at :func:`partial_path`.
    """
    partial = partial_path(path)
    _flush(partial)
    os.replace(partial, path)
    _flush(path.parent)


def require_new_folder(path: Path) -> None:
    """Require that a folder for results is empty or absent.

    Args:
        path (Path): The folder.

    Raises:
        UserError: It has content, or is a file.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"'{path}' exists: give a new folder.")


def tell_apart(items: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Name files by their path from their common folder, if names repeat.

    Args:
        items (list[tuple[str, Any]]): Names of results, whose suffix may
            change, and the files, or other things.

    Returns:
        list[tuple[str, Any]]: The same, with other names of files.
    """
    stems = [os.path.splitext(name)[0] for name, _ in items]
    files = [p for _, p in items if isinstance(p, str) and os.path.isfile(p)]
    if len(set(stems)) == len(stems) or len(set(files)) < 2:
        return items
    paths = {file: Path(file).absolute() for file in files}
    root = os.path.commonpath([path.parent for path in paths.values()])
    return [
        (paths[place].relative_to(root).as_posix(), place)
        if isinstance(place, str) and place in paths
        else (name, place)
        for name, place in items
    ]


def write_text(path: Path, text: str) -> None:
    """Write or replace a small file in one step."""
    partial_path(path).write_text(text, 'utf-8')
    finish(path)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    state = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(1 << 20):
            state.update(part)
    return state.hexdigest()


def remove_partial_files(folder: Path) -> None:
    """Remove what a killed process left behind in a folder."""
    for path in folder.glob(f'*{PARTIAL}'):
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    with suppress(PermissionError):  # folders, on Windows
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        except OSError as error:  # file systems without it
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(number)
