"""Sum up what a classifier's validation stored."""

from dataclasses import dataclass

import numpy as np


@dataclass
class ClassificationAnalysis:
    """All that the page shows of a classifier.

    Args:
        classes (list[str]): Names of the classes.
        table (list[dict]): For each class accuracy and number of images.
        confusion (np.ndarray): (C, C) counts, truth by prediction.
        wrong (list[dict]): Records of wrong images, the surest first.
    """

    classes: list[str]
    table: list[dict]
    confusion: np.ndarray
    wrong: list[dict]


def analyze_classification(
    records: list[dict], classes: list[str]
) -> ClassificationAnalysis:
    """Count truths and predictions.

    Args:
        records (list[dict]): Of :class:`mmsmt.hooks.PredictionHook`.
        classes (list[str]): Names of the classes.
    """
    pairs = [(x['truth'][0], x['labels'][0]) for x in records if x['truth']]
    count = max([len(classes), *(max(pair) + 1 for pair in pairs)])
    names = [*classes, *map(str, range(len(classes), count))]
    confusion = np.zeros((count, count), int)
    for truth, guess in pairs:
        confusion[truth, guess] += 1
    sums = confusion.sum(1)
    table = [
        dict(
            name=name,
            accuracy=confusion[i, i] / sums[i] if sums[i] else None,
            images=int(sums[i]),
        )
        for i, name in enumerate(names)
    ]
    wrong = [x for x in records if x['labels'][0] not in x['truth']]
    wrong.sort(key=lambda record: -record['scores'][0])
    return ClassificationAnalysis(names, table, confusion, wrong)
