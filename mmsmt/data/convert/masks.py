"""Read images with masks: a class for each pixel, by number or colour."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from mmsmt.data.files import DataError
from mmsmt.data.images import open_image
from mmsmt.data.parallel import map_files
from mmsmt.weights.reading import summarize

from .records import Collection, Picture
from .sources import (
    find_files,
    find_images,
    measure,
    read_lines,
    read_sets,
    split_of,
)

HINTS = re.compile(
    r'(^|[^a-z])((mask|label|annot|segm)|(seg|gt|ann)(?![a-z]))'
)
"""Names of folders of masks."""
PICTURES = re.compile(r'(^|[^a-z])(image|img|photo|picture|jpeg|leftimg)')
"""Names of folders of images, also in one of masks."""
PASSED_OVER = ('visual', 'object', 'instance')
NAMES = ('classes.txt', 'class_names.txt', 'labels.txt')
ENDS = ('_mask', '_masks', '_label', '_seg', '-mask', '_gt')
IGNORED = 255
COLOURS = 'labelmap.txt'


def pair_masks(root: Path) -> tuple[list[tuple[Path, Path]], int]:
    """Pair the images of a folder with masks of the same name.

    Masks of objects and pictures of masks, as VOC and LabelMe have them
    beside the masks of classes, are passed over.

    Returns:
        tuple[list[tuple[Path, Path]], int]: Image and mask, none if there are
        no masks; and the number of images or masks without the other.

    Raises:
        DataError: It is not clear which mask is meant, or masks are JPEG.
    """
    masks: dict[str, list[Path]] = {}
    every = {path.stem for path in find_images(root)}
    images: list[Path] = []
    lossy: list[Path] = []
    for path in find_images(root):
        folders = [part.lower() for part in path.relative_to(root).parts[:-1]]
        if any(word in part for part in folders for word in PASSED_OVER):
            continue
        hinted = is_of_masks(folders)
        stem = path.stem
        numbered = re.sub(r'_masks?[-_]?\d+$', '', stem)
        if numbered in every:  # the second mask of an image
            stem = numbered
        for end in ENDS:
            stem = stem.removesuffix(end)
        exact = path.suffix.lower() not in ('.jpg', '.jpeg')
        if exact and (hinted or stem != path.stem):
            masks.setdefault(stem, []).append(path)
        else:
            images.append(path)
            lossy += [path] if hinted else []
    stems = {path.stem for path in set(images) - set(lossy)}
    if not masks and any(path.stem in stems for path in lossy):
        raise DataError(
            f"'{lossy[0]}' and other masks are JPEG files, which change the "
            'numbers of classes. Write them as PNG.'
        )
    pairs = []
    for path in images:
        found = masks.get(path.stem, [])
        if found:
            pairs.append((path, _choose_mask(path, found, root)))
    used = {mask for _, mask in pairs}
    alone = sum(mask not in used for found in masks.values() for mask in found)
    return pairs, alone + len(images) - len(pairs)


def is_of_masks(folders: list[str]) -> bool:
    """Return whether folders, the innermost last, are said to hold masks."""
    for name in reversed(folders):
        if HINTS.search(name):
            return True
        if PICTURES.search(name):
            return False
    return False


def _choose_mask(image: Path, masks: list[Path], root: Path) -> Path:
    """Return the mask of an image, of those with its name.

    It has the split of the image, and most of its folders.

    Raises:
        DataError: Several are as likely.
    """
    split = split_of(image, root)
    folders = Counter(image.relative_to(root).parts[:-1])

    def rank(mask: Path) -> tuple[bool, int]:
        common = folders & Counter(mask.relative_to(root).parts[:-1])
        return split_of(mask, root) == split, sum(common.values())

    ranks = {mask: rank(mask) for mask in masks}
    highest = max(ranks.values())
    best = [mask for mask in masks if ranks[mask] == highest]
    if len(best) > 1:
        raise DataError(
            f"The mask of '{image}' may be '{best[0]}' or '{best[1]}'. Give "
            'each image a name of its own, or its mask the same folders.'
        )
    return best[0]


def read_masks(
    root: Path,
    pairs: list[tuple[Path, Path]],
    names: list[str],
    alone: int = 0,
) -> Collection:
    """Read images with masks.

    Args:
        root (Path): The folder.
        pairs (list[tuple[Path, Path]]): From :func:`pair_masks`.
        names (list[str]): Names of the classes; by default those of
            ``labelmap.txt``, ``classes.txt`` or ``class_names.txt``, else
            numbers.
        alone (int): Number of images or masks without the other.

    Raises:
        DataError: A mask has another size than its image, or colours whose
            classes are not said.
    """
    result = Collection('masks', 'semantic', [], {})
    colours = _read_colours(root)
    found: Counter = Counter()
    # A palette's numbers mean nothing where colours are named.
    look = list_colours if colours else list_values
    for values in map_files(look, [mask for _, mask in pairs], 'Masks'):
        found.update(values)
    sets = read_sets(root)
    for image, mask in pairs:
        picture = Picture(image, *measure(image), mask=mask)
        with open_image(mask) as opened:
            size = opened.height, opened.width
        if size != (picture.height, picture.width):
            raise DataError(
                f"The mask '{mask}' has {size[0]} x {size[1]} pixels, its "
                f'image {picture.height} x {picture.width}.'
            )
        split = sets.get(image.stem, '') or split_of(image, root)
        split = split or split_of(mask, root)
        result.splits.setdefault(split, []).append(picture)
    if alone:
        result.notes.append(
            f'{alone} images without a mask, or masks without an image, are '
            'left out.'
        )
    if colours or any(isinstance(value, tuple) for value in found):
        _name_colours(result, found, colours, names)
        return result
    numbers = {value for value in found if value != IGNORED}
    chosen, names = names, _read_names(root) or names
    if set(found) == {0, IGNORED} and len(names) == 1:
        raise DataError(
            f'The masks hold 0 and 255, and one class is named, {names[0]!r}: '
            f'name both, such as --classes background {names[0]}'
        )
    if set(found) == {0, IGNORED} and len(names) in (0, 2):
        result.classes = names or ['background', 'foreground']
        result.values = {0: 0, IGNORED: 1}
        result.notes.append(
            f'Masks hold 0 and 255: 255 is the class {result.classes[1]!r}.'
        )
        return result
    count = max(numbers, default=0) + 1
    if not names:
        if count > 2 * len(numbers):
            held = summarize(map(str, sorted(numbers)))
            raise DataError(
                f'The masks hold the numbers {held}, which leave most classes '
                'out: number the classes from 0, '
                'or name all of them in classes.txt.'
            )
        names = [str(i) for i in range(count)]
        result.notes.append(
            'The classes are named by their numbers: --classes NAME ... or a '
            'file classes.txt names them.'
        )
    if count > len(names):
        raise DataError(
            f'The masks hold numbers up to {count - 1}, and there are '
            f'{len(names)} classes.'
        )
    result.classes = chosen or names
    absent = [name for name in result.classes if name not in names]
    if absent:
        raise DataError(
            f'There is no class {", ".join(absent)}; the classes are '
            f'{", ".join(names)}.'
        )
    result.values = {
        i: result.classes.index(name)
        for i, name in enumerate(names)
        if name in result.classes
    }
    if len(result.classes) < len(names):
        result.notes.append('Pixels of other classes are ignored.')
    return result


def _read_names(root: Path) -> list[str]:
    for name in NAMES:
        path = root / name
        if path.is_file():
            # LabelMe's label of what is to be ignored has no number.
            return [x for x in read_lines(path) if x != '__ignore__']
    return []


def list_colours(path: Path) -> list:
    """List the colours of a mask, also of one with a palette."""
    return list_values(path, by_colour=True)


def list_values(path: Path, by_colour: bool = False) -> list:
    """List the values of a mask, or its colours as tuples."""
    try:
        with open_image(path) as image:
            if by_colour:
                image = image.convert('RGB')
            if image.mode == '1':  # as OpenCV reads it
                return [0, 255]
            if image.mode in ('L', 'P'):
                return [v for v, n in enumerate(image.histogram()) if n]
            if len(image.getbands()) == 1:
                return np.unique(np.asarray(image)).tolist()
            colours = image.convert('RGB').getcolors(4096)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error}") from None
    if colours is None:
        raise DataError(
            f"'{path}' has more than 4,096 colours: it is no mask, or was "
            'compressed with loss.'
        )
    return [colour for _, colour in colours]


def convert_mask(path: Path, values: dict) -> Image.Image:
    """Return a mask with the numbers of classes, and 255 for no class."""
    colours = any(isinstance(value, tuple) for value in values)
    with open_image(path) as image:
        if not colours and (image.mode == 'P' or len(image.getbands()) == 1):
            pixels = np.asarray(image).astype(np.int64)
            if image.mode == '1':
                pixels *= 255
        else:
            channels = np.asarray(image.convert('RGB')).astype(np.int64)
            pixels = channels @ (2**16, 2**8, 1)
    result = np.full(pixels.shape, IGNORED, np.uint8)
    for value, number in values.items():
        if isinstance(value, tuple):
            value = value[0] * 2**16 + value[1] * 2**8 + value[2]
        result[pixels == value] = number
    return Image.fromarray(result)


def _read_colours(root: Path) -> dict[tuple, str]:
    """Read CVAT's ``labelmap.txt``: lines ``name:r,g,b:parts:actions``."""
    colours = {}
    for path in find_files(root, COLOURS):
        for line in read_lines(path):
            if line.startswith('#'):
                continue
            try:
                name, colour = line.split(':')[:2]
                red, green, blue = map(int, colour.split(','))
            except ValueError:
                raise DataError(
                    f"'{path}': {line!r} is not NAME:R,G,B::"
                ) from None
            colours[red, green, blue] = name.strip()
    return colours


def _name_colours(
    result: Collection, found: Counter, colours: dict, names: list[str]
) -> None:
    unknown = sorted(
        (c for c in found if c not in colours), key=lambda c: -found[c]
    )
    if unknown:
        example = ', '.join(map(str, unknown[:5]))
        raise DataError(
            f'The masks are in colour, and no {COLOURS} says which class the '
            f'colours {example} are. Write it into the folder, with a line '
            '"NAME:R,G,B::" for each class.'
        )
    result.classes = names or list(dict.fromkeys(colours.values()))
    absent = [x for x in result.classes if x not in colours.values()]
    if absent:
        raise DataError(
            f'There is no class {", ".join(absent)}; {COLOURS} has '
            f'{", ".join(dict.fromkeys(colours.values()))}.'
        )
    if set(result.classes) < set(colours.values()):
        result.notes.append('Colours of other classes are ignored.')
    result.values = {
        colour: result.classes.index(name)
        for colour, name in colours.items()
        if name in result.classes
    }
