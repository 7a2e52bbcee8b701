"""Compare an exported file with its model."""

import copy
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.runner import Runner

from mmsmt.launch.trial import SAVING, evaluate_only, silence
from mmsmt.runtimes import ExportedModel

MATCHED = 0.01
"""Difference from which two objects are not the same."""
METRICS = ('bbox_mAP', 'segm_mAP', 'mIoU', 'accuracy/top1')
"""Ends of the names of metrics that are compared; without them all are."""


@dataclass
class Proof:
    """Hold what a comparison found.

    Args:
        images (int): Number of images.
        nothing (bool): They are a detector's, and neither found an object.
        difference (float): Largest difference of outputs: of probabilities;
            of logits, as a share of the largest; of the best 99 % of objects,
            of scores, and of boxes as a share of the image's longer side.
        objects (int): Objects that were compared.
        alone (int): Objects that one of both found alone: where the overlap
            of two boxes is at the threshold, rounding decides.
        pixels (float): Share of pixels with another class.
        metrics (Mapping): By name, the model's and the file's, from 0 to 1.
        seconds (tuple[float, float]): Median time of an image, of both.
        unjudged (str): Why there are no metrics.
    """

    images: int = 0
    nothing: bool = False
    difference: float = 0.0
    objects: int = 0
    alone: int = 0
    pixels: float = 0.0
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seconds: tuple[float, float] = (0.0, 0.0)
    unjudged: str = 'there are no labels'

    @property
    def change(self) -> float:
        """The largest change of a metric, from 0 to 1.

        It is infinite where only one of both is known.
        """
        changes = [0.0]
        for one, other in self.metrics.values():
            if np.isnan(one) != np.isnan(other):
                changes.append(np.inf)
            elif not np.isnan(one):  # neither has objects to be found
                changes.append(abs(one - other))
        return max(changes)


class Judge:
    """Evaluate both on labelled images, by the config's metrics.

    Args:
        runner (Runner): Of the config, to build its evaluators.
        meta (dict): Of the dataset.
    """

    def __init__(self, runner: Runner, meta: dict) -> None:
        self._runner = runner
        self._ids: list[int | None] = []
        self._evaluators = []
        for _ in range(2):
            settings = copy.deepcopy(runner.cfg.test_evaluator)
            for metric in (
                settings if isinstance(settings, list) else [settings]
            ):
                for key in SAVING:  # files of whole tests
                    metric.pop(key, None)
            self._evaluators.append(runner.build_evaluator(settings))
            self._evaluators[-1].dataset_meta = meta

    def add(self, batch: Any, results: list[list]) -> None:
        """Add the results of the model and of the file on an image."""
        for evaluator, samples in zip(self._evaluators, results):
            evaluator.process(data_samples=samples, data_batch=batch)
        self._ids.append(results[0][0].get('img_id'))

    def evaluate(self) -> dict[str, tuple[float, float]]:
        """Return the metrics of both by name, from 0 to 1."""
        values = []
        for evaluator in self._evaluators:
            evaluate_only(evaluator, self._ids)
            with silence(self._runner):
                values.append(evaluator.evaluate(len(self._ids)))
        numbers = {
            name: float(value)
            for name, value in values[0].items()
            if isinstance(value, (int, float, np.number))
        }
        names = [x for x in numbers if x.endswith(METRICS)] or list(numbers)
        # mmseg and mmpretrain give percents.
        scale = 1 if self._runner.cfg.default_scope == 'mmdet' else 100
        return {  # NaN where the file finds nothing
            name: (
                numbers[name] / scale,
                float(values[1].get(name, np.nan)) / scale,
            )
            for name in names
        }


def prove(
    model: Any,
    exported: ExportedModel,
    batches: Iterable,
    judge: Judge | None = None,
) -> Proof:
    """Predict with both on the same images.

    Args:
        model (nn.Module): The host's model.
        exported (ExportedModel): The file.
        batches (Iterable): Batches of one image.
        judge (Judge, optional): Evaluates both; None without labels.

    Returns:
        Proof: What was found.
    """
    proof = Proof()
    seconds: list[list[float]] = [[], []]
    differences = [0.0]
    pixels, objects = [], []
    threshold = _score_threshold(model)
    for batch in batches:
        both = []
        for i, what in enumerate((model, exported)):
            own = copy.deepcopy(batch)
            begin = time.perf_counter()
            with torch.no_grad():
                both.append(what.test_step(own))
            seconds[i].append(time.perf_counter() - begin)
        if judge:
            judge.add(batch, both)
        results = [samples[0] for samples in both]
        proof.images += 1
        if 'pred_instances' in results[0]:
            objects += compare_objects(results[0], results[1], threshold)
        elif 'seg_logits' in results[0]:
            one, other = (x.seg_logits.data.float() for x in results)
            differences.append(float((one - other).abs().max()))
            differences[-1] /= max(float(one.abs().max()), 1e-12)
            maps = [x.pred_sem_seg.data for x in results]
            pixels.append(float((maps[0] != maps[1]).float().mean()))
        else:
            one, other = (x.pred_score for x in results)
            differences.append(float((one - other).abs().max()))
    proof.nothing = not objects and len(differences) == 1
    proof.difference = float(np.max(differences))  # NaN if one is
    if objects:
        proof.difference = float(np.quantile(objects, 0.99))
        proof.objects = len(objects)
        proof.alone = sum(x == 1 for x in objects)
    proof.pixels = float(np.mean(pixels)) if pixels else 0.0
    if judge:
        proof.metrics = judge.evaluate()
        proof.unjudged = 'the evaluators give no number'
    one, other = (float(np.median(x)) for x in seconds)
    proof.seconds = one, other
    return proof


def compare_objects(
    one: Any, other: Any, threshold: float = 0.0
) -> list[float]:
    """Compare the objects of two samples of mmdet.

    Args:
        one (DetDataSample): The reference.
        other (DetDataSample): The other.
        threshold (float): Score from which both keep objects.

    Returns:
        list[float]: For each object of the reference, and each that only the
        other has: the difference of scores and boxes, as a share of the
        image's longer side; 1 if one has it alone. Rounding may drop those
        within 1e-3 of the threshold, or of the lowest score of one with as
        many objects, whose number is limited: they do not count.
    """
    side = max(one.ori_shape[:2])
    rows, other_rows = (_group(sample, side) for sample in (one, other))
    scores, others = (x.pred_instances.scores for x in (one, other))
    floor = _find_floor(others, scores, threshold)
    other_floor = _find_floor(scores, others, threshold)
    errors = []
    for label in {*rows, *other_rows}:
        rest = list(other_rows.get(label, []))
        for row in rows.get(label, []):
            found = [np.abs(row - candidate).max() for candidate in rest]
            if found and min(found) < MATCHED:
                errors.append(float(min(found)))
                del rest[int(np.argmin(found))]
            elif row[-1] > floor:
                errors.append(1.0)
        errors += [1.0 for row in rest if row[-1] > other_floor]
    return errors


def _find_floor(kept: Any, others: Any, threshold: float) -> float:
    """Return the score up to which a sample may lack an object of another.

    Args:
        kept (Tensor): Scores of the sample.
        others (Tensor): Scores of the other one.
        threshold (float): Score from which both keep objects.
    """
    full = len(kept) and len(kept) >= len(others)
    return max(threshold, float(kept.min()) if full else 0.0) + 1e-3


def _score_threshold(model: Any) -> float:
    """Return the score from which a detector keeps objects, 0 if any."""
    for part in ('roi_head', 'bbox_head', ''):
        owner = getattr(model, part, None) if part else model
        cfg = getattr(owner, 'test_cfg', None) or {}
        if 'score_thr' in cfg:
            return float(cfg['score_thr'])
    return 0.0


def _group(sample: Any, side: int) -> dict[int, list[np.ndarray]]:
    """Return boxes, as shares of a side, and scores by label."""
    groups: dict[int, list] = defaultdict(list)
    found = sample.pred_instances
    for label, box, score in zip(
        found.labels.tolist(), found.bboxes / side, found.scores
    ):
        groups[label].append(np.append(box.numpy(), float(score)))
    return groups


def show(proof: Proof) -> Iterable[str]:
    """Yield lines that say what a comparison found."""
    yield f'Compared on {proof.images} images:'
    if proof.objects:
        yield f'  difference, 99 % of objects     {proof.difference:.2e}'
        yield (
            f'  objects found by one alone      {proof.alone} of '
            f'{proof.objects}'
        )
    else:
        yield f'  largest difference of outputs   {proof.difference:.2e}'
    if proof.pixels:
        yield f'  pixels of another class         {proof.pixels:.2e}'
    for name, (one, other) in proof.metrics.items():
        yield f'  {name:31s} {one:.4f}, of the file {other:.4f}'
    if not proof.metrics:
        yield f'  metrics                         none: {proof.unjudged}'
    one, other = proof.seconds
    yield (
        f'  time of an image                {one:.3f} s, of the file '
        f'{other:.3f} s'
    )
