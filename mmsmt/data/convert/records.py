"""Labelled images between a format that is read and one that is written."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmsmt.data.files import DataError


@dataclass
class Thing:
    """An object in an image.

    Args:
        label (str): Name of its class.
        box (tuple[float, ...]): (x, y, width, height) in pixels.
        mask (list | dict): Polygons, each [x1, y1, x2, y2, ...] in pixels, or
            COCO's RLE; None if there is a box only.
        crowd (bool): True for a group that is not told apart, or an object
            that is not evaluated.
    """

    label: str
    box: tuple[float, ...]
    mask: list | dict | None = None
    crowd: bool = False

    @classmethod
    def of_polygons(
        cls, label: str, polygons: list[list[float]], crowd: bool = False
    ) -> 'Thing':
        """Make an object of its polygons."""
        xs = [x for polygon in polygons for x in polygon[::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
        x, y = min(xs), min(ys)
        box = x, y, max(xs) - x, max(ys) - y
        return cls(label, box, polygons, crowd)

    @property
    def area(self) -> float:
        """Area in square pixels, of the polygons where there are."""
        if isinstance(self.mask, list) and self.mask:
            area = sum(map(_polygon_area, self.mask))
            # The formula gives 0 for some that cross themselves.
            return area or self.box[2] * self.box[3] / 2
        if isinstance(self.mask, dict) and 'area' in self.mask:
            return self.mask['area']
        return self.box[2] * self.box[3]


def _polygon_area(points: list[float]) -> float:
    xs, ys = points[::2], points[1::2]
    pairs = zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1])
    return abs(sum(x1 * y2 - x2 * y1 for x1, y1, x2, y2 in pairs)) / 2


@dataclass
class Picture:
    """An image with its labels.

    Args:
        path (Path): The file.
        height (int): Height in pixels, as displayed.
        width (int): Width in pixels, as displayed.
        things (list[Thing]): Its objects.
        mask (Path): A file of the number of a class for each pixel.
        label (str): Its class, for classification.
    """

    path: Path
    height: int = 0
    width: int = 0
    things: list[Thing] = field(default_factory=list)
    mask: Path | None = None
    label: str | None = None

    @property
    def labels(self) -> set[str]:
        """Names of the classes in the image."""
        own = {self.label} if self.label is not None else set()
        return own | {thing.label for thing in self.things}


@dataclass
class Collection:
    """Labelled images of a folder.

    Args:
        format (str): Name of the format that was read.
        task (str): ``instance`` (masks of objects), ``detection`` (boxes),
            ``semantic`` (a class for each pixel) or ``classification``.
        classes (list[str]): Names of the classes, in the order of labels.
        splits (dict[str, list[Picture]]): Images of ``train``, ``val``,
            ``test``; of ``''`` where the folder has no splits.
        notes (list[str]): What was changed or left out, in sentences.
        values (dict): Class number by the value or colour in a mask; others
            are ignored.
    """

    format: str
    task: str
    classes: list[str]
    splits: dict[str, list[Picture]]
    notes: list[str] = field(default_factory=list)
    values: dict = field(default_factory=dict)

    def pictures(self) -> Iterator[Picture]:
        """Yield the images of all splits."""
        for pictures in self.splits.values():
            yield from pictures


def tidy(collection: Collection) -> None:
    """Leave out objects without an extent; clip boxes to their image.

    Args:
        collection (Collection): Changed in place; what was left out is noted.

    Raises:
        DataError: Most objects would be left out.
    """
    dropped: Counter = Counter()
    clipped = total = 0
    for picture in collection.pictures():
        kept = []
        for thing in picture.things:
            total += 1
            x, y, w, h = thing.box
            left, top = max(x, 0), max(y, 0)
            right = min(x + w, picture.width)
            bottom = min(y + h, picture.height)
            if not (w > 0 and h > 0):
                dropped['have no width or height'] += 1
            elif right - left <= 0 or bottom - top <= 0:
                dropped['lie outside their image'] += 1
            else:
                box = left, top, right - left, bottom - top
                moved = max(abs(a - b) for a, b in zip(box, thing.box))
                clipped += moved > 1
                if moved > 1e-3:
                    thing.box = box
                kept.append(thing)
        picture.things = kept
    for reason, count in dropped.items():
        if count > total / 2:
            raise DataError(
                f'{count} of {total} objects {reason}: the numbers do not '
                f'mean what they mean in {collection.format}.'
            )
        collection.notes.append(f'{count} objects {reason}: left out.')
    if clipped:
        collection.notes.append(
            f'{clipped} boxes leave their image: clipped to it.'
        )
