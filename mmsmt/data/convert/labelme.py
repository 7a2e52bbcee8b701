"""Read LabelMe's JSON files."""

import base64
import io
import math
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from mmsmt.data.files import DataError

from .records import Collection, Picture, Thing
from .sources import (
    ImageFinder,
    gives_other_size,
    measure,
    note_others,
    split_of,
)

CIRCLE_POINTS = 64


def read_labelme(root: Path, contents: dict[Path, dict]) -> Collection:
    """Read the annotations of a folder in LabelMe's format.

    Polygons of one label and one ``group_id`` are the parts of one object.
    Points and lines are left out.

    Args:
        root (Path): The folder.
        contents (dict[Path, dict]): Its LabelMe files, one for each image.

    Raises:
        DataError: A file is damaged, or its image is missing.
    """
    finder = ImageFinder(root)
    result = Collection('LabelMe', '', [], {})
    left_out: Counter = Counter()
    seen: dict[Path, Path] = {}
    for path, content in contents.items():
        name = str(content.get('imagePath') or '')
        split = split_of(path, root)
        image = finder.find(name, path, split)
        if image is None or image.stem != path.stem:
            # Files are renamed or copied, and what they say of images stays.
            own = finder.find(path.stem, path, split)
            if image is None or (own and own.parent == path.parent):
                image = own
        if image is None:
            raise DataError(f"'{path}' names the image '{name}', not found.")
        if image in seen:
            raise DataError(
                f"'{path}' and '{seen[image]}' name the same image, '{image}'."
            )
        seen[image] = path
        picture = Picture(image, *measure(image))
        given = content.get('imageHeight'), content.get('imageWidth')
        size = picture.height, picture.width
        if gives_other_size(given, size):
            raise DataError(
                f"'{path}' was drawn on an image of {given[0]} x {given[1]} "
                f"pixels; '{image}' has {picture.height} x {picture.width}."
            )
        picture.things = _read_shapes(path, content['shapes'], left_out)
        result.splits.setdefault(split, []).append(picture)
    if left_out:
        kinds = ', '.join(f'{n} {kind}' for kind, n in left_out.items())
        result.notes.append(
            f'Shapes to ignore or without an area are left out: {kinds}.'
        )
    note_others(result, finder)
    labels = {t.label for p in result.pictures() for t in p.things}
    result.classes = sorted(labels)
    return result


def _read_shapes(
    path: Path, shapes: list[dict], left_out: Counter
) -> list[Thing]:
    things: list[Thing] = []
    groups: dict[tuple, Thing] = {}
    for shape in shapes:
        if shape.get('label') in (None, ''):
            raise DataError(
                f"'{path}' has a shape without a label. Label or delete it."
            )
        if shape['label'] == '__ignore__':  # as LabelMe's own converters
            left_out['__ignore__'] += 1
            continue
        label, kind = str(shape['label']), shape.get('shape_type')
        kind = kind or 'polygon'
        points = [float(x) for point in shape['points'] for x in point]
        if kind == 'rectangle' and len(points) == 4:
            x1, x2 = sorted(points[::2])
            y1, y2 = sorted(points[1::2])
            things.append(Thing(label, (x1, y1, x2 - x1, y2 - y1)))
            continue
        if kind in ('rectangle', 'rotation') and len(points) == 8:
            kind = 'polygon'  # all four corners, as newer tools write them
        if kind == 'mask':
            things.append(_read_mask(label, shape, points))
            continue
        if kind == 'circle' and len(points) == 4:
            points = _draw_circle(*points)
        elif kind != 'polygon' or len(points) < 6:
            left_out[kind] += 1
            continue
        key = label, shape.get('group_id')
        if key[1] is not None and key in groups:
            whole = groups[key]
            joined = Thing.of_polygons(label, [*(whole.mask or []), points])
            whole.mask, whole.box = joined.mask, joined.box
            continue
        things.append(Thing.of_polygons(label, [points]))
        groups[key] = things[-1]
    return things


def _draw_circle(x: float, y: float, x2: float, y2: float) -> list[float]:
    radius = math.hypot(x2 - x, y2 - y)
    angles = (2 * math.pi * i / CIRCLE_POINTS for i in range(CIRCLE_POINTS))
    return [
        value
        for angle in angles
        for value in (
            x + radius * math.cos(angle),
            y + radius * math.sin(angle),
        )
    ]


def _read_mask(label: str, shape: dict, points: list[float]) -> Thing:
    """Read a shape that is an image of its box's size."""
    x, y = int(points[0]), int(points[1])
    with Image.open(io.BytesIO(base64.b64decode(shape['mask']))) as image:
        inside = np.asarray(image) > 0
    height, width = inside.shape[:2]
    return Thing(
        label,
        (x, y, width, height),
        dict(at=(x, y), bits=inside, area=float(inside.sum())),
    )
