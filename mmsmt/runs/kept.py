"""Keep a large file's content from its check until its dataset is built.

To parse COCO's annotations takes ten seconds or more, and each run does it
twice: for the check and in pycocotools.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGE = 20 * 2**20
"""Size in bytes from which a file is kept."""


class _Kept:
    """The content of the last large file, until it is taken."""

    def __init__(self) -> None:
        self.active = False
        self.key: tuple = ()
        self.content: Any = None

    def put(self, path: Path, content: Any) -> None:
        if self.active and path.stat().st_size >= LARGE:
            self.key, self.content = _identify(path), content

    def take(self, path: str) -> Any:
        if self.content is None or self.key != _identify(path):
            return None
        content, self.content = self.content, None
        return content


KEPT = _Kept()


class _Json:
    """The json module, whose ``load`` takes kept content."""

    def __getattr__(self, name: str) -> Any:
        return getattr(json, name)

    def load(self, file: Any, **kwargs: Any) -> Any:
        found = KEPT.take(getattr(file, 'name', ''))
        return json.load(file, **kwargs) if found is None else found


@contextlib.contextmanager
def keep_content() -> Iterator[None]:
    """Keep content inside a ``with`` block, for pycocotools to take."""
    try:
        from pycocotools import coco
    except ImportError:
        yield
        return
    KEPT.active, coco.json = True, _Json()
    try:
        yield
    finally:
        drop_content()
        coco.json = json


def drop_content() -> None:
    """Release content that nothing took, and keep no more."""
    KEPT.active, KEPT.content = False, None


def _identify(path: str | Path) -> tuple:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
