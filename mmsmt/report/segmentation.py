"""Sum up what a segmenter's validation stored."""

from collections import Counter
from dataclasses import dataclass

import numpy as np


@dataclass
class SegmentationAnalysis:
    """All that the page shows of a segmenter.

    Args:
        classes (list[str]): Names of the classes.
        table (list[dict]): For each class IoU, accuracy and share of pixels.
        confusion (np.ndarray): (C, C) shares of each class's pixels.
        images (list[dict]): Stored records, worst first.
    """

    classes: list[str]
    table: list[dict]
    confusion: np.ndarray
    images: list[dict]


def analyze_segmentation(
    records: list[dict], classes: list[str]
) -> SegmentationAnalysis:
    """Add up the confusions of all images.

    Args:
        records (list[dict]): Of :class:`mmsmt.hooks.PredictionHook`.
        classes (list[str]): Names of the classes.
    """
    total: Counter = Counter()
    for record in records:
        for truth, guess, pixels in record['pairs']:
            total[truth, guess] += pixels
    count = max([len(classes), *(max(pair) + 1 for pair in total)])
    names = [*classes, *map(str, range(len(classes), count))]
    matrix = np.zeros((count, count))
    for (truth, guess), pixels in total.items():
        matrix[truth, guess] = pixels
    hits, rows, columns = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    table = [
        dict(
            name=name,
            iou=_ratio(hits[i], rows[i] + columns[i] - hits[i]),
            accuracy=_ratio(hits[i], rows[i]),
            share=_ratio(rows[i], matrix.sum()),
        )
        for i, name in enumerate(names)
    ]
    shares = matrix / np.maximum(rows, 1)[:, None]
    images = sorted(records, key=lambda record: record['iou'])
    return SegmentationAnalysis(names, table, shares, images)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
