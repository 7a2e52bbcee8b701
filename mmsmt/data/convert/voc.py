"""Read Pascal VOC's XML files."""

import math
from pathlib import Path
from xml.etree import ElementTree

from mmsmt.data.files import DataError

from .records import Collection, Picture, Thing
from .sources import ImageFinder, measure, note_others, read_sets, split_of

CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def read_voc(root: Path, files: list[Path]) -> Collection:
    """Read the annotations of a folder in Pascal VOC's format.

    VOC counts pixels from 1 and includes the last one. Tools that write
    fractions or a 0 count from 0; their corners are taken as they are.

    Args:
        root (Path): The folder.
        files (list[Path]): Its XML files.

    Raises:
        DataError: A file is damaged, or its image is missing.
    """
    finder = ImageFinder(root)
    trees = [(path, _parse(path)) for path in files]
    numbers = [
        float(element.text or 'nan')
        for _, tree in trees
        for name in CORNERS
        for element in tree.iterfind(f'object/bndbox/{name}')
    ]
    lowest = [
        float(element.text or 'nan')
        for _, tree in trees
        for name in CORNERS[:2]
        for element in tree.iterfind(f'object/bndbox/{name}')
    ]
    one_based = (
        all(x == int(x) for x in numbers) and min(lowest, default=1) > 0
    )
    result = Collection('Pascal VOC', '', [], {})
    if one_based:
        result.notes.append(
            'Corners are whole numbers from 1: read as VOC counts, the last '
            'pixel included.'
        )
    sets = read_sets(root)
    seen: dict[Path, Path] = {}
    difficult = 0
    for path, tree in trees:
        split = sets.get(path.stem) or split_of(path, root)
        name = tree.findtext('filename') or path.stem
        image = finder.find(name, path, split)
        if image is None or image.stem != path.stem:
            # Files are renamed, and what XML files say of them stays.
            image = finder.find(path.stem, path, split) or image
        if image is None:
            raise DataError(f"'{path}' names the image '{name}', not found.")
        if image in seen:
            raise DataError(
                f"'{path}' and '{seen[image]}' name the same image, '{image}'."
            )
        seen[image] = path
        picture = Picture(image, *measure(image))
        _compare_sizes(path, tree, picture)
        for element in tree.iterfind('object'):
            picture.things.append(_read_object(path, element, one_based))
            difficult += picture.things[-1].crowd
        result.splits.setdefault(split, []).append(picture)
    note_others(result, finder)
    labels = [t.label for p in result.pictures() for t in p.things]
    result.classes = sorted(set(labels))
    if difficult:
        result.notes.append(
            f'{difficult} objects are "difficult": not trained or evaluated, '
            'as in VOC (iscrowd=1).'
        )
    return result


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise DataError(f"'{path}' is not whole XML ({error}).") from None


def _read_object(
    path: Path, element: ElementTree.Element, one_based: bool
) -> Thing:
    label = (element.findtext('name') or '').strip()
    texts = [element.findtext(f'bndbox/{name}') for name in CORNERS]
    try:
        x1, y1, x2, y2 = (float(text or '') for text in texts)
    except ValueError:
        raise DataError(
            f"'{path}': an object {label!r} has the corners {texts}."
        ) from None
    if not label:
        raise DataError(f"'{path}': an object has no name.")
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 < x1 or y2 < y1:
        raise DataError(
            f"'{path}': an object {label!r} has the corners {texts}; xmin and "
            'ymin come first and are the smaller ones.'
        )
    crowd = (element.findtext('difficult') or '0').strip() == '1'
    polygon = _read_polygon(element)
    if polygon:
        return Thing.of_polygons(label, [polygon], crowd)
    if one_based:
        x1, y1 = x1 - 1, y1 - 1
    return Thing(label, (x1, y1, x2 - x1, y2 - y1), crowd=crowd)


def _read_polygon(element: ElementTree.Element) -> list[float]:
    """Read the polygon that some tools write beside the box."""
    points: list[float] = []
    for i in range(1, 10000):
        x = element.findtext(f'polygon/x{i}')
        y = element.findtext(f'polygon/y{i}')
        if x is None or y is None:
            break
        points += [float(x), float(y)]
    return points if len(points) >= 6 else []


def _compare_sizes(
    path: Path, tree: ElementTree.Element, picture: Picture
) -> None:
    texts = [tree.findtext(f'size/{name}') for name in ('height', 'width')]
    given = tuple(int(float(text or 0)) for text in texts)
    if all(given) and given != (picture.height, picture.width):
        raise DataError(
            f"'{path}' was drawn on an image of {given[0]} x {given[1]} "
            f"pixels (height x width); '{picture.path}' is displayed with "
            f'{picture.height} x {picture.width}.'
        )
