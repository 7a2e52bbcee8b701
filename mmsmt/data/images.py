"""Check image files by their names and headers, without decoding them."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from mmsmt.weights.reading import summarize

from .findings import Findings
from .parallel import Ahead, map_files

Fault = tuple[str, str]
"""Kind and detail."""
Header = tuple[Fault | None, tuple[int, int] | None]
"""Fault of a file, and its displayed height and width in pixels."""
ORIENTATION = 0x0112
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
OTHERS = ('.heic', '.heif', '.avif', '.jfif', '.gif', '.jp2')
"""Suffixes of images that are left out."""
ENDS = {'JPEG': b'\xff\xd9', 'MPO': b'\xff\xd9', 'PNG': b'IEND'}
"""Bytes near the end of a whole file, by format."""
SIZES = {'WEBP': (4, 8), 'BMP': (2, 0)}
"""Place of a file's length in it, and the bytes to add to it, by format."""
FORMATS = ('JPEG', 'MPO', 'PNG', 'BMP', 'TIFF', 'WEBP', 'PPM')
"""Formats that mmcv reads, by Pillow's names."""
DEEP = 'images have 16 bits per channel, of which mmcv loads the upper 8'
WARNINGS = (DEEP,)
REMEDIES = {
    'masks are missing': 'Each image needs a mask of its name; remove the '
    'image, or correct data_prefix and seg_map_suffix.',
    'masks are in colour': 'Convert each colour to the number of its class, '
    'in an image of one channel.',
    'masks hold numbers above 255': 'mmseg reads 8 bits: number the classes '
    'from 0, at most 254.',
}


def read_headers_ahead(folder: Path) -> Ahead:
    """Read the headers of a folder's images in other processes.

    Args:
        folder (Path): The folder; those in it are left out.
    """
    paths = [os.path.join(folder, name) for name in _list_files(str(folder))]
    images = [path for path in paths if path.lower().endswith(SUFFIXES)]
    return Ahead(read_header, images)


def check_images(
    folder: Path,
    files: Mapping[str, tuple[int, int]],
    findings: Findings,
    ahead: Ahead | None = None,
) -> None:
    """Check that images exist, are whole and have the annotated size.

    Args:
        folder (Path): Folder of the images.
        files (Mapping[str, tuple[int, int]]): Annotated height and width in
            pixels, by file relative to the folder.
        findings (Findings): Extended in place.
        ahead (Ahead, optional): Of :func:`read_headers_ahead`.
    """
    missing = []
    listed: dict[str, set[str]] = {}
    present = {}
    for name in files:
        path = os.path.join(folder, name)
        parent, base = os.path.split(path)
        if parent not in listed:
            listed[parent] = _list_files(parent)
        if base in listed[parent]:
            present[name] = path
        else:
            missing.append(name)
    if missing:
        findings.error(
            folder,
            f'{len(missing)} of {len(files)} images are missing: '
            f'{summarize(missing, 3)}',
            _find_elsewhere(folder, missing),
        )
    title = f'Images of {folder}'
    headers = ahead.collect(present.values(), title) if ahead else {}
    rest = [path for path in present.values() if path not in headers]
    headers.update(zip(rest, map_files(read_header, rest, title)))
    faults = [
        _compare_size(headers[path], files[name])
        for name, path in present.items()
    ]
    report_faults(folder, list(present), faults, findings)


def report_faults(
    where: object,
    files: Sequence[str],
    faults: Sequence[tuple[str, str] | None],
    findings: Findings,
) -> None:
    """Report the faults of files, a finding for each kind.

    Args:
        where (object): Place that the findings name.
        files (Sequence[str]): The files.
        faults (Sequence[tuple[str, str] | None]): Kind and detail of the
            fault of each, None if it is fine.
        findings (Findings): Extended in place.
    """
    kinds: dict[str, list[str]] = {}
    for path, fault in zip(files, faults):
        if fault:
            kinds.setdefault(fault[0], []).append(f"'{path}'{fault[1]}")
    for kind, paths in kinds.items():
        text = f'{len(paths)} of {len(files)} {kind}: {summarize(paths, 3)}'
        if kind in WARNINGS:
            findings.warn(where, text)
        else:
            findings.error(where, text, REMEDIES.get(kind, ''))


def find_fault(path: str, noun: str = 'images') -> Fault | None:
    """Return the kind and the detail of a file's fault, None if it is fine.

    Args:
        path (str): The file.
        noun (str): Name of such files in the text.
    """
    return read_header(path, noun)[0]


def find_padding(preprocessor: Any) -> tuple[int, bool]:
    """Find how a data preprocessor pads images in tests.

    Args:
        preprocessor (nn.Module): That of a model.

    Returns:
        tuple[int, bool]: The number whose multiples sides become, and
        whether they become a fixed size instead.
    """
    test = getattr(preprocessor, 'test_cfg', None) or {}
    divisor = getattr(preprocessor, 'pad_size_divisor', None)
    return int(test.get('size_divisor') or divisor or 1), 'size' in test


def count_suffixes(folder: Path) -> Counter:
    """Count the images below a folder by their suffixes."""
    return Counter(
        path.suffix
        for path in folder.rglob('*')
        if path.suffix.lower() in SUFFIXES
    )


def _list_files(folder: str) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:
        return set()


def _compare_size(header: Header, size: tuple[int, int]) -> Fault | None:
    fault, found = header
    if found and found != tuple(size):
        return (
            'images have another size, as displayed, than annotated',
            f' {found[0]} x {found[1]} for {size[0]} x {size[1]}',
        )
    return fault


def read_header(path: str, noun: str = 'images') -> Header:
    """Return a file's fault, None if it is fine, and its displayed size.

    Args:
        path (str): The file.
        noun (str): Name of such files in the text.

    Returns:
        tuple: Kind and detail of the fault, or None; height and width in
        pixels, or None if the fault hides them.
    """
    try:
        with open(path, 'rb') as file:
            length = file.seek(0, os.SEEK_END)
            if not length:
                return (f'{noun} are empty files', ''), None
            file.seek(0)
            with open_image(file) as image:
                # Before EXIF data are read: a PNG is decoded for them.
                deep = ';16' in str(getattr(image, 'tile', ''))
                size = displayed_size(image)
                if image.format not in FORMATS:
                    kind = f'{noun} are of a format that mmcv lacks'
                    return (kind, f' ({image.format})'), None
                if image.mode in ('F', 'I') and noun == 'images':
                    return ('images have 32 bits, which mmcv lacks', ''), None
                if not _is_whole(image, file, length):
                    return (f'{noun} are cut off', ''), None
    except FileNotFoundError:
        return (f'{noun} are missing', ''), None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return (f'{noun} cannot be read as images', ''), None
    return (DEEP, '') if deep and noun == 'images' else None, size


def _is_whole(image: Image.Image, file: BinaryIO, length: int) -> bool:
    """Check that a file has its end; most formats say where that is."""
    kind = image.format or ''
    if kind in SIZES:
        offset, more = SIZES[kind]
        file.seek(offset)
        return int.from_bytes(file.read(4), 'little') + more <= length
    if kind not in ENDS:
        image.load()  # raises an error
        return True
    for tail in (2**12, 2**16):  # some tools append data of their own
        file.seek(max(0, length - tail))
        if ENDS[kind] in file.read():
            return True
    return False


@contextlib.contextmanager
def open_image(file: Any) -> Iterator[Image.Image]:
    """Open an image of any size; Pillow refuses those above 179 megapixels.

    Args:
        file (str | Path | BinaryIO): The file.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(file) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def displayed_size(image: Image.Image) -> tuple[int, int]:
    """Return height and width in pixels, turned as its EXIF data says."""
    width, height = image.size
    if image.format == 'PNG' and 'exif' not in image.info:
        return height, width  # to look for more would decode it
    if image.format == 'TIFF':  # OpenCV does not turn it
        return height, width
    if image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8):
        return width, height
    return height, width


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
