"""Check boxes and masks of single annotations."""

import math
from numbers import Real
from typing import Any


def is_positive(value: Any) -> bool:
    """Check that a value is a number above 0."""
    return isinstance(value, (int, float)) and value > 0


def is_box(box: Any) -> bool:
    """Check that a value is a list of four finite numbers."""
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return False
    try:
        if math.isfinite(sum(box)):  # most are
            return True
    except (TypeError, OverflowError):
        pass
    return all(isinstance(v, Real) and math.isfinite(v) for v in box)


def describe_mask_fault(mask: Any, image: dict, evaluated: bool) -> str:
    """Describe what keeps a mask from being loaded or evaluated, or ''."""
    if not mask:
        return 'annotations have no segmentation, and masks are trained'
    if isinstance(mask, dict):
        return _describe_rle_fault(mask, image)
    if not isinstance(mask, list):
        return 'masks are neither polygons nor RLE'
    if _is_ordinary(mask, image):
        return ''
    # mmdet leaves the others out.
    whole = [
        polygon
        for polygon in mask
        if isinstance(polygon, list)
        and len(polygon) >= 6
        and len(polygon) % 2 == 0
    ]
    if not whole:
        return 'masks have no polygon of three points or more'
    if evaluated and not (isinstance(mask[0], list) and len(mask[0]) > 4):
        return (
            'masks begin with a polygon of fewer than three points, which the '
            'metric cannot read'
        )
    try:
        numbers = all(math.isfinite(sum(polygon)) for polygon in whole)
    except TypeError:
        numbers = False
    if not numbers:
        return 'masks have coordinates that are no finite numbers'
    if all(len(polygon) <= 8 and not _has_area(polygon) for polygon in whole):
        return 'masks have no area: their points are on one line'
    x = [value for polygon in whole for value in polygon[::2]]
    y = [value for polygon in whole for value in polygon[1::2]]
    if max(x + y) <= 1 < min(image['height'], image['width']):
        return 'masks lie within 1 x 1 pixel, as fractions of the image would'
    if max(x) - min(x) < 1 and max(y) - min(y) < 1:
        return 'masks have no area: their points are in one pixel'
    if (
        min(x) >= image['width']
        or min(y) >= image['height']
        or max(x) <= 0
        or max(y) <= 0
    ):
        return 'masks lie outside their image'
    return ''


def _is_ordinary(mask: list, image: dict) -> bool:
    """Find out quickly that polygons are without fault, as most are.

    Each must have five points or more, begin inside the image, and have
    another point farther than a pixel away. Others are looked at closely.
    """
    width, height = image['width'], image['height']
    try:
        for polygon in mask:
            x, y, size = polygon[0], polygon[1], len(polygon)
            other = size // 4 * 2
            if (
                size < 10
                or size % 2
                or not (1 < x < width and 1 < y < height)
                or (-1 < polygon[other] - x < 1)
                or not math.isfinite(sum(polygon))
                or not isinstance(polygon, list)
            ):
                return False
    except (IndexError, KeyError, OverflowError, TypeError):
        return False
    return True


def _describe_rle_fault(mask: dict, image: dict) -> str:
    size = list(mask.get('size') or [])
    if size != [image['height'], image['width']]:
        return 'masks have another size than their image'
    counts = mask.get('counts')
    if not counts:
        return 'masks are empty'
    if isinstance(counts, str):
        counts = _decode_counts(counts)
    # pycocotools would read beyond its memory.
    if not isinstance(counts, list) or not all(
        isinstance(count, int) and count >= 0 for count in counts
    ):
        return 'masks have RLE counts that are no numbers from 0 on'
    if sum(counts) != size[0] * size[1]:
        return 'masks have RLE counts for another number of pixels'
    return '' if any(counts[1::2]) else 'masks are empty'


def _decode_counts(text: str) -> list[int]:
    """Decode the counts of COCO's compressed RLE.

    Five bits a character, the lowest first; the sixth bit says that more
    follow. From the third on, counts are differences from the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        counts.append(value)
        value = shift = 0
    return counts


def _has_area(points: list[float]) -> bool:
    """Check that a short polygon encloses anything."""
    xs, ys = points[::2], points[1::2]
    pairs = zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1])
    return sum(x1 * y2 - x2 * y1 for x1, y1, x2, y2 in pairs) != 0
