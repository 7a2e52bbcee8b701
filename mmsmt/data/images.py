"""Check image files by their names and headers, without decoding them."""

import os
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mmsmt.weights.reading import summarize

from .findings import Findings

ORIENTATION = 0x0112
ENDS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND'}
"""Bytes near the end of a whole file, by format."""


def check_images(
    folder: Path,
    files: Mapping[str, tuple[int, int]],
    findings: Findings,
) -> None:
    """Check that images exist, are whole and have the annotated size.

    Args:
        folder (Path): Folder of the images.
        files (Mapping[str, tuple[int, int]]): Annotated height and width in
            pixels, by file relative to the folder.
        findings (Findings): Extended in place.
    """
    faults: dict[str, list[str]] = {}
    missing = []
    listed: dict[str, set[str]] = {}
    for name, size in files.items():
        parent = os.path.join(folder, os.path.dirname(name))
        if parent not in listed:
            listed[parent] = _list_files(parent)
        if os.path.basename(name) not in listed[parent]:
            missing.append(name)
            continue
        fault = _describe_fault(os.path.join(folder, name), size)
        if fault:
            faults.setdefault(fault[0], []).append(f"'{name}'{fault[1]}")
    if missing:
        findings.error(
            folder,
            f'{len(missing)} of {len(files)} images are missing: '
            f'{summarize(missing, 3)}',
            _find_elsewhere(folder, missing),
        )
    for text, labels in faults.items():
        findings.error(
            folder, f'{len(labels)} images {text}: {summarize(labels, 3)}'
        )


def _list_files(folder: str) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:
        return set()


def _describe_fault(
    path: str, size: tuple[int, int] | None
) -> tuple[str, str] | None:
    """Return the kind and the detail of a file's fault, None if it is fine."""
    if not os.path.getsize(path):
        return 'are empty files', ''
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8):
                width, height = height, width
            end = ENDS.get(image.format or '')
    except (UnidentifiedImageError, OSError, SyntaxError):
        return 'cannot be read as images', ''
    if end:
        with open(path, 'rb') as file:
            file.seek(max(0, os.path.getsize(path) - 4096))
            if end not in file.read():
                return 'are cut off', ''
    if size and (height, width) != tuple(size):
        return (
            'have another size, as displayed, than their annotation',
            f' {height} x {width} for {size[0]} x {size[1]}',
        )
    return None


def _find_elsewhere(folder: Path, missing: list[str]) -> str:
    """Search the first missing files in the folders around."""
    name = Path(missing[0]).name
    around = folder if folder.is_dir() else folder.parent
    if not around.is_dir():
        return f"There is no folder '{folder}'."
    for place in (around, around.parent):
        for found in place.glob(f'*/{name}'):
            return f"'{name}' is in '{found.parent}': set data_prefix to it."
        for found in place.glob(f'*/*/{name}'):
            return f"'{name}' is in '{found.parent}': set data_prefix to it."
    stem = Path(name).stem
    for found in around.glob(f'{stem}.*'):
        return f"There is '{found.name}': file_name has another suffix."
    return 'Copy them there, or remove them from the annotations.'
