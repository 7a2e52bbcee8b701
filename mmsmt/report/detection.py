"""Analyze a detector's stored predictions against the truth."""

import contextlib
import io
import json
import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmsmt.environment import count_cores

SCORE = 0.3
"""Score from which detections count as shown to a user."""
IOU = 0.5
"""Overlap from which a detection finds an object."""
WEAK = 0.1
"""Overlap below which a detection is background."""
KINDS = {
    'class': 'another class at the right place',
    'place': 'the right class, IoU 0.1 to 0.5',
    'both': 'another class, IoU 0.1 to 0.5',
    'duplicate': 'an object that is found already',
    'background': 'no object (IoU below 0.1)',
    'missed': 'objects that nothing finds',
}
"""Kinds of errors, as TIDE names them (Bolya et al., ECCV 2020)."""
RANGES = {
    'all': 'all',
    'small': 'below 32² pixels',
    'medium': '32² to 96² pixels',
    'large': 'above 96² pixels',
}
BINS = 10
FEW = 20000
"""Number of detections for which no processes are started."""


@dataclass
class ImageResult:
    """Detections of an image with a score of at least :data:`SCORE`.

    Args:
        file (str): Its path.
        quality (float): Objects found, over found, missed and wrong ones.
        truth (list): Boxes and class numbers of objects.
        found (list): Boxes, class numbers, scores and kinds of errors ('' if
            right) of detections.
    """

    file: str
    quality: float
    truth: list = field(default_factory=list)
    found: list = field(default_factory=list)


@dataclass
class DetectionAnalysis:
    """All that the page shows of a detector.

    Args:
        classes (list[str]): Names of the classes.
        table (list[dict]): For each class AP, AP50, objects, detections.
        curves (np.ndarray): (C, 101) precision at IoU 0.5 by recall.
        sizes (list[dict]): AP and objects by size.
        confusion (np.ndarray): (C + 1, C + 1) counts, truth by prediction;
            the last row is background, the last column missed.
        errors (dict[str, int]): Counts by kind.
        calibration (list[dict]): Mean score, precision and count of bins.
        images (list[ImageResult]): All images, worst first.
    """

    classes: list[str]
    table: list[dict]
    curves: np.ndarray
    sizes: list[dict]
    confusion: np.ndarray
    errors: dict[str, int]
    calibration: list[dict]
    images: list[ImageResult]


def analyze_detection(
    annotations: Path,
    results: Path,
    image_folder: Path,
    classes: Sequence[str] = (),
) -> DetectionAnalysis:
    """Compare results with annotations, both in COCO's format.

    Args:
        annotations (Path): The file that the metric read.
        results (Path): Boxes with scores, as mmdet's metric writes them.
        image_folder (Path): Folder of the images.
        classes (Sequence[str]): Names of the model's classes, if they are a
            part of the file's categories.
    """
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        _keep_classes(truth, classes)
        notes = json.loads(results.read_text())
        found = truth.loadRes(notes) if notes else None
    precision = _evaluate_sizes(truth, found)
    keys = sorted(truth.cats)
    names = [truth.cats[key]['name'] for key in keys]
    numbers = {key: i for i, key in enumerate(keys)}
    objects = Counter(
        numbers[note['category_id']]
        for note in truth.anns.values()
        if not note.get('iscrowd')
    )
    table, curves, sizes = _read_precision(precision, names, objects, truth)
    matching = _match_all(truth, notes, numbers, image_folder)
    return DetectionAnalysis(names, table, curves, sizes, *matching)


def _keep_classes(truth: Any, classes: Sequence[str]) -> None:
    """Leave out categories that are no class of the model, as metrics do."""
    content = truth.dataset
    kept = [c for c in content['categories'] if c['name'] in classes]
    if not kept or len(kept) == len(content['categories']):
        return
    keys = {category['id'] for category in kept}
    truth.dataset = dict(
        content,
        categories=kept,
        annotations=[
            note
            for note in content['annotations']
            if note['category_id'] in keys
        ],
    )
    truth.createIndex()


def _evaluate_sizes(truth: Any, found: Any) -> np.ndarray:
    """Return precision by IoU threshold, recall, class, and size of objects.

    The sizes are computed by several processes: pycocotools goes through all
    images and classes for each.
    """
    if found is None:
        return np.zeros((10, 101, len(truth.cats), len(RANGES)))
    few = len(found.anns) < FEW
    if few or 'fork' not in multiprocessing.get_all_start_methods():
        parts = [_evaluate_size(name, truth, found) for name in RANGES]
        return np.stack(parts, -1)
    context = multiprocessing.get_context('fork')
    with context.Pool(
        min(len(RANGES), count_cores()), _inherit, (truth, found)
    ) as pool:
        return np.stack(pool.map(_evaluate_inherited, RANGES, 1), -1)


_INHERITED: list[Any] = []


def _inherit(truth: Any, found: Any) -> None:
    _INHERITED[:] = truth, found


def _evaluate_inherited(name: str) -> np.ndarray:
    return _evaluate_size(name, *_INHERITED)


def _evaluate_size(name: str, truth: Any, found: Any) -> np.ndarray:
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, found, 'bbox')
        params = evaluation.params
        index = params.areaRngLbl.index(name)
        params.areaRng = [params.areaRng[index]]
        params.areaRngLbl, params.maxDets = [name], [100]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval['precision'][..., 0, 0]


def _read_precision(
    precision: np.ndarray, names: list[str], objects: Counter, truth: Any
) -> tuple[list[dict], np.ndarray, list[dict]]:
    """Return AP by class, precision by recall, and AP by size."""
    valid = np.where(precision < 0, np.nan, precision)

    def mean(values: np.ndarray) -> float | None:
        values = values[~np.isnan(values)]
        return float(values.mean()) if values.size else None

    table = [
        dict(
            name=name,
            ap=mean(valid[:, :, i, 0]),
            ap50=mean(valid[0, :, i, 0]),
            objects=objects[i],
        )
        for i, name in enumerate(names)
    ]
    areas = [
        note['area'] for note in truth.anns.values() if not note.get('iscrowd')
    ]
    edges = np.digitize(areas, [32**2, 96**2]) if areas else np.array([])
    counts = [len(areas), *((edges == i).sum() for i in range(3))]
    sizes = [
        dict(
            name=name,
            text=text,
            ap=mean(valid[:, :, :, i]),
            objects=int(counts[i]),
        )
        for i, (name, text) in enumerate(RANGES.items())
    ]
    return table, np.nan_to_num(valid[0, :, :, 0].T), sizes


def _match_all(
    truth: Any, notes: list[dict], numbers: dict, folder: Path
) -> tuple:
    """Match detections of all images; collect what they show."""
    count = len(numbers)
    confusion = np.zeros((count + 1, count + 1), int)
    errors: Counter = Counter(dict.fromkeys(KINDS, 0))
    scores: list[float] = []
    right: list[bool] = []
    images = []
    by_image = defaultdict(list)
    for note in notes:
        by_image[note['image_id']].append(note)
    for key, image in truth.imgs.items():
        objects = [
            note
            for note in truth.imgToAnns.get(key, ())
            if not note.get('iscrowd')
        ]
        found = sorted(by_image[key], key=lambda note: -note['score'])
        overlaps = _overlaps(objects, found)
        matches = _match_classes(objects, found, overlaps)
        scores += [note['score'] for note in found]
        right += [match >= 0 for match in matches]
        shown = [note for note in found if note['score'] >= SCORE]
        kinds, pairs, missed = _name_errors(objects, shown, overlaps, matches)
        errors.update(kind for kind in kinds if kind)
        errors['missed'] += len(missed)
        for i, j in pairs:
            confusion[
                numbers[objects[i]['category_id']],
                numbers[shown[j]['category_id']],
            ] += 1
        paired = {j for _, j in pairs}
        for j, note in enumerate(shown):
            if j not in paired:
                confusion[-1, numbers[note['category_id']]] += 1
        for i in set(range(len(objects))) - {i for i, _ in pairs}:
            confusion[numbers[objects[i]['category_id']], -1] += 1
        good = kinds.count('')
        total = len(objects) + len(shown) - good
        images.append(
            ImageResult(
                str(folder / image['file_name']),
                good / total if total else 1.0,
                [(n['bbox'], numbers[n['category_id']]) for n in objects],
                [
                    (n['bbox'], numbers[n['category_id']], n['score'], kind)
                    for n, kind in zip(shown, kinds)
                ],
            )
        )
    images.sort(key=lambda result: (result.quality, -len(result.truth)))
    calibration = _calibrate(np.array(scores), np.array(right))
    return confusion, dict(errors), calibration, images


def _overlaps(objects: list[dict], found: list[dict]) -> np.ndarray:
    """Return (found, objects) IoU of boxes."""
    from pycocotools.mask import iou

    if not objects or not found:
        return np.zeros((len(found), len(objects)))
    boxes = np.array([note['bbox'] for note in found], float)
    others = np.array([note['bbox'] for note in objects], float)
    return np.asarray(iou(boxes, others, [0] * len(others)))


def _match_classes(
    objects: list[dict], found: list[dict], overlaps: np.ndarray
) -> list[int]:
    """Match each detection, best first, to an object of its class, or -1."""
    free = set(range(len(objects)))
    matches = []
    for row, note in zip(overlaps, found):
        candidates = [
            i
            for i in free
            if row[i] >= IOU
            and objects[i]['category_id'] == note['category_id']
        ]
        best = max(candidates, key=lambda i: row[i], default=-1)
        free.discard(best)
        matches.append(best)
    return matches


def _name_errors(
    objects: list[dict],
    found: list[dict],
    overlaps: np.ndarray,
    matches: list[int],
) -> tuple[list[str], list[tuple[int, int]], set[int]]:
    """Name the error of each detection, best first.

    Returns:
        tuple: A kind for each detection, '' if it is right; pairs of objects
        and the detections that lie on them, of any class; objects that
        nothing is near.
    """
    kinds = []
    matches = matches[: len(found)]
    pairs = [(i, j) for j, i in enumerate(matches) if i >= 0]
    taken = {i for i, _ in pairs}
    near: set[int] = set()
    for j, (row, note) in enumerate(zip(overlaps, found)):
        near |= set(np.flatnonzero(row >= WEAK))
        label = note['category_id']
        same = [i for i, x in enumerate(objects) if x['category_id'] == label]
        own, any_ = max(row[same], default=0.0), max(row, default=0.0)
        if matches[j] >= 0:
            kinds.append('')
        elif own >= IOU:
            kinds.append('duplicate')
        elif any_ >= IOU:
            kinds.append('class')
            free = [i for i in np.flatnonzero(row >= IOU) if i not in taken]
            if free:
                chosen = int(max(free, key=lambda i: row[i]))
                taken.add(chosen)
                pairs.append((chosen, j))
        elif own >= WEAK:
            kinds.append('place')
        else:
            kinds.append('both' if any_ >= WEAK else 'background')
    return kinds, pairs, set(range(len(objects))) - near


def _calibrate(scores: np.ndarray, right: np.ndarray) -> list[dict]:
    """Return mean score and precision in bins of the score."""
    if not len(scores):
        return []
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [
        dict(
            score=float(scores[bins == i].mean()),
            precision=float(right[bins == i].mean()),
            count=int((bins == i).sum()),
        )
        for i in range(BINS)
        if (bins == i).any()
    ]
