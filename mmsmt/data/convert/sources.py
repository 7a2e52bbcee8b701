"""Find the files of a folder, whatever its layout."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import UnidentifiedImageError

from mmsmt.data.files import DataError
from mmsmt.data.images import (
    OTHERS,
    SUFFIXES,
    displayed_size,
    open_image,
)

from .records import Collection

SPLITS = {
    'train': 'train',
    'training': 'train',
    'val': 'val',
    'valid': 'val',
    'validation': 'val',
    'eval': 'val',
    'evaluation': 'val',
    'dev': 'val',
    'minival': 'val',
    'holdout': 'val',
    'test': 'test',
    'testing': 'test',
}
"""Splits by the names that folders and files give them."""


def split_of_name(name: str) -> str:
    """Return the split that a name says, such as ``seg_train``, or ''."""
    stem = Path(name).stem.lower()
    for word in (stem, *re.split('[-_. ]', stem)):
        split = SPLITS.get(word.rstrip('0123456789'))
        if split:
            return split
    return ''


def split_of(path: Path, root: Path, by_file: bool = False) -> str:
    """Return the split that a file's folders say, the nearest first, or ''.

    Args:
        path (Path): The file.
        root (Path): Folder of the data; those above it say nothing.
        by_file (bool): The file's own name says it too: it holds the labels
            of many images.
    """
    parts = path.relative_to(root).parts if root in path.parents else ()
    names = parts if by_file else parts[:-1]
    splits = (split_of_name(name) for name in reversed(names))
    return next(filter(None, splits), '')


def gives_other_size(given: tuple, size: tuple[int, int]) -> bool:
    """Check that an annotation gives another size than its image has.

    Args:
        given (tuple): Height and width, as numbers or texts; None for a value
            that is not given.
        size (tuple[int, int]): Height and width of the image.
    """
    return None not in given and given not in (size, tuple(map(str, size)))


def measure(path: Path) -> tuple[int, int]:
    """Return height and width of an image as displayed, in pixels.

    Raises:
        DataError: The file is no image.
    """
    try:
        with open_image(path) as image:
            return displayed_size(image)
    except FileNotFoundError:
        raise DataError(f"The image '{path}' is missing.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        raise DataError(f"'{path}' cannot be read as an image.") from None


def find_files(folder: Path, suffixes: str | tuple[str, ...]) -> list[Path]:
    """List the files below a folder by their suffixes, in order.

    Hidden files and folders are left out, and those that macOS adds.
    """
    return [p for p in _walk(folder) if p.name.lower().endswith(suffixes)]


def describe_unread(folders: Iterable[Path]) -> str:
    """Count the images of folders that mmcv cannot read; '' if none."""
    files = [path for folder in folders for path in find_files(folder, OTHERS)]
    if not files:
        return ''
    suffixes = dict.fromkeys(path.suffix.lower() for path in files)
    return (
        f'{len(files)} files end in {", ".join(suffixes)} and are left out: '
        'mmcv reads none of them'
    )


def is_hidden(name: str) -> bool:
    """Check that a name is a hidden one, or a folder that macOS adds."""
    return name[0] == '.' or name == '__MACOSX'


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not is_hidden(f))
        for name in folders[:]:
            inner = Path(parent, name)
            if inner.is_symlink():
                here = Path(parent).resolve()
                if inner.resolve() in (here, *here.parents):
                    folders.remove(name)  # a link to a folder it lies in
        for name in sorted(names):
            if not is_hidden(name):
                yield Path(parent, name)


def find_images(folder: Path) -> list[Path]:
    """List the images below a folder, hidden ones left out, in order."""
    return find_files(folder, SUFFIXES)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file that are not empty, without their ends.

    Raises:
        DataError: It is not in UTF-8.
    """
    try:
        text = path.read_text('utf-8-sig')  # Windows may mark its start
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not in UTF-8 ({error}).") from None
    return [line.strip() for line in text.split('\n') if line.strip()]


def read_sets(root: Path) -> dict[str, str]:
    """Read VOC's ``ImageSets``: the split by the stem of a file."""
    found: dict[str, str] = {}
    for path in find_files(root, '.txt'):
        split = SPLITS.get(path.stem.lower())
        if not split or path.parent.parent.name != 'ImageSets':
            continue
        lines = read_lines(path)
        if all(re.search(r'\s-?[01]$', line) for line in lines):
            # A list of a class says which images show it.
            lines = [re.sub(r'\s+-?[01]$', '', line) for line in lines]
        for line in lines:
            name = Path(line.replace('\\', '/')).name
            stem = name
            if name.lower().endswith((*SUFFIXES, '.xml')):
                stem = Path(name).stem
            found.setdefault(stem, split)
    return found


class ImageFinder:
    """Finds images by a name or a path that may be of another machine.

    Args:
        root (Path): Folder with all images.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_stem: dict[str, list[Path]] = {}
        for path in find_images(root):
            self._by_stem.setdefault(path.stem, []).append(path)

    def list_others(self, used: Iterable[Path]) -> list[Path]:
        """List the images beside used ones that are not used.

        Args:
            used (Iterable[Path]): Images that annotations name.
        """
        used = set(used)
        folders = {path.parent for path in used}
        return sorted(
            path
            for found in self._by_stem.values()
            for path in found
            if path not in used and path.parent in folders
        )

    def find(self, name: str, near: Path, split: str = '') -> Path | None:
        """Find an image by its path from a file, else by its name.

        Args:
            name (str): The name or path that the file gives; without an
                image's suffix it stands for any.
            near (Path): The file.
            split (str): Split of the file; images of another are not meant.

        Returns:
            Path | None: The image; None if there is none.

        Raises:
            DataError: Several are as likely.
        """
        name = name.replace('\\', '/')
        for folder in (near.parent, *near.parents):
            if name and (folder / name).is_file():
                return folder / name
            if folder == self.root:
                break
        wanted = Path(name)
        suffix = wanted.suffix.lower()
        stem = wanted.stem if suffix in SUFFIXES else wanted.name
        found = [
            path
            for path in self._by_stem.get(stem, [])
            if suffix not in SUFFIXES
            or path.suffix.lower().replace('e', '') == suffix.replace('e', '')
        ]
        if split:
            found = [
                path
                for path in found
                if split_of(path, self.root) in ('', split)
            ]
        ranks = {path: self._rank(path, wanted, near, split) for path in found}
        best = [p for p in found if ranks[p] == max(ranks.values())]
        if len(best) > 1:
            raise DataError(
                f"'{near}' names the image '{name}', which may be "
                f"'{best[0]}' or '{best[1]}'. Name images by their path from "
                'the file, or put the other ones elsewhere.'
            )
        return best[0] if best else None

    def _rank(
        self, path: Path, wanted: Path, near: Path, split: str
    ) -> tuple[int, ...]:
        """Return what tells the meant image from others of its name."""
        same = 0
        for one, other in zip(
            reversed(path.parts[:-1]), reversed(wanted.parts[:-1])
        ):
            if one != other:
                break
            same += 1
        own = bool(split) and split_of(path, self.root) == split
        common = os.path.commonpath([path, near.parent])
        depth = len(path.parts) if path.parent == near.parent else 0
        return same, own, len(Path(common).parts), depth


def note_others(collection: Collection, finder: ImageFinder) -> None:
    """Note images that no annotation names; they are left out.

    Args:
        collection (Collection): Its notes are extended.
        finder (ImageFinder): Finder of its images.
    """
    used = [picture.path for picture in collection.pictures()]
    others = finder.list_others(used)
    if others:
        collection.notes.append(
            f'{len(others)} images have no file of labels and are left out, '
            f"such as '{others[0]}'."
        )
