"""Check boxes and masks of single annotations."""

import math
from numbers import Real
from typing import Any


def is_positive(value: Any) -> bool:
    """Check that a value is a number above 0."""
    return isinstance(value, (int, float)) and value > 0


def is_box(box: Any) -> bool:
    """Check that a value is a list of four finite numbers."""
    return (
        isinstance(box, (list, tuple))
        and len(box) == 4
        and all(
            (type(v) in (float, int) or isinstance(v, Real))
            and math.isfinite(v)
            for v in box
        )
    )


def describe_mask_fault(mask: Any, image: dict) -> str:
    """Describe what keeps a mask from being loaded, or ''."""
    if not mask:
        return 'annotations have no segmentation, and masks are trained'
    if isinstance(mask, dict):
        size = list(mask.get('size') or [])
        if size != [image['height'], image['width']]:
            return 'masks have another size than their image'
        return '' if mask.get('counts') else 'masks are empty'
    if not isinstance(mask, list):
        return 'masks are neither polygons nor RLE'
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
    if all(len(polygon) <= 8 and not _has_area(polygon) for polygon in whole):
        return 'masks have no area: their points are on one line'
    return ''


def _has_area(points: list[float]) -> bool:
    """Check that a short polygon encloses anything."""
    xs, ys = points[::2], points[1::2]
    pairs = zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1])
    return sum(x1 * y2 - x2 * y1 for x1, y1, x2, y2 in pairs) != 0
