"""Store what a validation or a test predicts, for the report of a run."""

import contextlib
import json
import logging
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import (
    collect_results,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner
from mmengine.structures import BaseDataElement
from PIL import Image

from mmsmt.data.configured import is_local, iter_datasets
from mmsmt.environment import describe_device, installed
from mmsmt.registry import HOOKS
from mmsmt.runs.files import hash_file, write_text
from mmsmt.runs.records import PREDICTIONS, RUN

WORST = 8
"""Images of a segmenter, in each process, whose class maps are stored."""
IGNORED = 255
"""Value of pixels that belong to no class."""
BEST = 5
"""Classes of an image that are stored."""


@HOOKS.register_module()
class PredictionHook(Hook):
    """Store predictions, and what runs, in the work dir.

    ``predictions/val.json`` belongs to the last validation, ``test.json`` to
    the last test. Boxes and masks are written by mmdet's metric beside it, in
    COCO's format; labels and scores of classifiers, and the confusions of
    segmenters, by this hook.
    """

    priority = 'LOWEST'

    def before_run(self, runner: Runner) -> None:
        """Write the config, versions and devices beside the log."""
        self._info = _describe_run(runner) if is_main_process() else {}
        self._write_info(runner)

    def before_train(self, runner: Runner) -> None:
        """Add the numbers of images, and the annotations' hashes."""
        self._info['images'] = len(runner.train_dataloader.dataset)
        self._add_annotations(runner, ('train', 'val'))
        self._write_info(runner)

    def after_train(self, runner: Runner) -> None:
        """Add the peak of memory, in GiB."""
        self._info['finished'] = True
        with contextlib.suppress(ImportError):  # Windows has none
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            self._info['peak'] = round(peak, 2)
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated() / 2**30
            self._info['peak'] = round(peak, 2)
        self._write_info(runner)

    def _add_annotations(self, runner: Runner, splits: Iterable[str]) -> None:
        if is_main_process():
            known = self._info.setdefault('annotations', {})
            for split in splits:
                known[split] = _describe_annotations(runner.cfg, split)

    def _write_info(self, runner: Runner) -> None:
        if is_main_process():
            with _optional():
                path = Path(runner.log_dir, RUN)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, json.dumps(self._info, default=str))

    def before_val(self, runner: Runner) -> None:
        """Let the metric write its results."""
        self._begin(runner, runner.val_evaluator, 'val')

    def before_test(self, runner: Runner) -> None:
        """Let the metric write its results."""
        self._add_annotations(runner, ('test',))
        self._write_info(runner)
        self._begin(runner, runner.test_evaluator, 'test')

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
    ) -> None:
        """Collect predictions."""
        if not isinstance(outputs, (list, tuple)):
            return
        for sample in outputs:
            if not isinstance(sample, BaseDataElement):
                continue
            if 'pred_score' in sample and 'gt_label' in sample:
                self._records.append(_describe_image(sample))
            elif 'pred_sem_seg' in sample and 'gt_sem_seg' in sample:
                record = _count_confusions(sample, self._ignored)
                self._records.append(record)
                maps = sample.gt_sem_seg.data[0], sample.pred_sem_seg.data[0]
                self._worst.append((record, maps))
                self._worst.sort(key=lambda item: item[0]['iou'])
                del self._worst[WORST:]

    after_test_iter = after_val_iter

    def after_val_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Write the predictions of a validation."""
        self._end(runner, 'val', len(runner.val_dataloader.dataset), metrics)

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Write the predictions of a test."""
        self._end(runner, 'test', len(runner.test_dataloader.dataset), metrics)

    def _begin(self, runner: Runner, evaluator: Any, split: str) -> None:
        self._records: list[dict] = []
        self._worst: list[tuple[dict, tuple[torch.Tensor, ...]]] = []
        folder = Path(runner.work_dir, PREDICTIONS)
        with _optional():
            folder.mkdir(parents=True, exist_ok=True)
        self._ignored = IGNORED
        for metric in evaluator.metrics:
            self._ignored = getattr(metric, 'ignore_index', self._ignored)
            unset = getattr(metric, 'outfile_prefix', '') is None
            if unset and folder.is_dir():
                metric.outfile_prefix = str(folder / split)

    def _end(
        self, runner: Runner, split: str, size: int, metrics: dict | None
    ) -> None:
        folder = Path(runner.work_dir, PREDICTIONS)
        with _optional():
            self._write_worst(folder, split)
        records = self._records
        # mmdet's metric writes its own, and has collected them.
        if get_world_size() > 1 and runner.cfg.get('default_scope') != 'mmdet':
            evaluator = getattr(runner, f'{split}_evaluator')
            device = getattr(evaluator.metrics[0], 'collect_device', 'cpu')
            records = collect_results(records, size, device)
        self._records = []
        if not is_main_process():
            return
        loop = _training_of(runner)
        content = dict(
            epoch=getattr(loop, 'epoch', 0) if split == 'val' else 0,
            iteration=getattr(loop, 'iter', 0),
            metrics=_find_numbers(metrics or {}),
            classes=_find_class_names(runner, split),
            records=records,
        )
        with _optional():
            write_text(folder / f'{split}.json', json.dumps(content))

    def _write_worst(self, folder: Path, split: str) -> None:
        for number, (record, maps) in enumerate(self._worst):
            record['maps'] = []
            for kind, values in zip(('truth', 'found'), maps):
                name = f'{split}_{get_rank()}_{number}_{kind}.png'
                pixels = values.cpu().numpy().astype('uint16')
                Image.fromarray(pixels).save(folder / name)
                record['maps'].append(name)
        self._worst = []


def _find_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are numbers; others are lists or matrices."""
    found = {}
    for name, value in metrics.items():
        with contextlib.suppress(RuntimeError, TypeError, ValueError):
            found[name] = float(value)
    return found


@contextlib.contextmanager
def _optional() -> Iterator[None]:
    """Let no full disk end a run for the sake of its report."""
    try:
        yield
    except OSError as error:
        print_log(
            f'Nothing is stored for the report: {error}',
            logger='current',
            level=logging.WARNING,
        )


def _training_of(runner: Runner) -> BaseLoop | None:
    """Return the loop of a training; a test has none, and builds none."""
    loop = runner._train_loop  # the property would read the training data
    return loop if isinstance(loop, BaseLoop) else None


def _describe_run(runner: Runner) -> dict:
    """Return what a report says of a run."""
    file = runner.cfg.filename
    text, changed = '', {}
    if file and os.path.isfile(file):
        text = Path(file).read_text(errors='replace')
        changed = find_differences(Config.fromfile(file), runner.cfg)
    return dict(
        config=file,
        text=text,
        changed=changed,
        command=sys.argv,
        device=describe_device(),
        threads=torch.get_num_threads(),
        processes=get_world_size(),
        seed=runner.seed,
        iterations=getattr(_training_of(runner), 'max_iters', 0),
        python=platform.python_version(),
        versions=installed(),
    )


def _describe_annotations(cfg: Config, split: str) -> dict[str, str]:
    """Return the annotation file of a split and its SHA-256, if it has one."""
    for dataset in iter_datasets(cfg, f'{split}_dataloader'):
        file = dataset.get('ann_file')
        if file and isinstance(file, str) and is_local(dataset):
            path = Path(dataset.get('data_root') or '', file)
            with contextlib.suppress(OSError):
                return dict(file=str(path), sha256=hash_file(path))
    return {}


def find_differences(base: dict, other: dict, key: str = '') -> dict[str, str]:
    """Return settings that another config changes, by dotted key.

    Args:
        base (dict): A config.
        other (dict): The one that ran.
        key (str): Start of the keys.
    """
    found = {}
    for name in {**base, **other}:
        one, two = base.get(name), other.get(name)
        place = f'{key}{name}'
        if isinstance(one, dict) and isinstance(two, dict):
            found.update(find_differences(one, two, f'{place}.'))
        elif repr(one) != repr(two) and place != 'custom_hooks':
            found[place] = repr(two)
    return found


def _find_class_names(runner: Runner, split: str) -> list[str]:
    loader = (
        runner.val_dataloader if split == 'val' else (runner.test_dataloader)
    )
    meta = getattr(loader.dataset, 'metainfo', None) or {}
    return list(map(str, meta.get('classes') or ()))


def _describe_image(sample: Any) -> dict:
    """Return a classifier's result as plain values."""
    scores = sample.pred_score.float()
    best = scores.topk(min(BEST, scores.numel()))
    return dict(
        file=sample.get('img_path'),
        truth=sample.gt_label.tolist(),
        labels=best.indices.tolist(),
        scores=[round(score, 5) for score in best.values.tolist()],
    )


def _count_confusions(sample: Any, ignored: int = IGNORED) -> dict:
    """Count a segmenter's pixels by class of truth and prediction."""
    truth = sample.gt_sem_seg.data.flatten().long().cpu()
    guess = sample.pred_sem_seg.data.flatten().long().cpu()
    valid = truth != ignored
    step = int(max(truth[valid].max(), guess.max())) + 1 if valid.any() else 1
    pairs, counts = (truth[valid] * step + guess[valid]).unique(
        return_counts=True
    )
    triples = [
        (pair // step, pair % step, count)
        for pair, count in zip(pairs.tolist(), counts.tolist())
    ]
    return dict(
        file=sample.get('img_path'),
        pairs=triples,
        iou=_mean_iou(triples),
    )


def _mean_iou(triples: list[tuple[int, int, int]]) -> float:
    """Return the mean over the classes of an image, 1 if it has none."""
    hits: Counter = Counter()
    union: Counter = Counter()
    for truth, guess, count in triples:
        union[truth] += count
        if truth == guess:
            hits[truth] += count
        else:
            union[guess] += count
    ratios = [hits[key] / union[key] for key in union]
    return sum(ratios) / len(ratios) if ratios else 1.0
