"""Try the validation on two batches before the first iteration."""

import contextlib
import copy
import io
import itertools
import logging
import random
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmsmt.data.configured import (
    divides_datasets,
    follows_metric,
    iter_schedulers,
)

from .config import LaunchError

BATCHES = 2
SAVING = ('outfile_prefix', 'output_dir', 'out_file_path')
"""Settings of metrics that name files which they write."""


class TrialHook(Hook):
    """Hook that tries the validation when the model is built and loaded."""

    def before_train(self, runner: Runner) -> None:
        """Try it; raise what :func:`try_validation` raises."""
        try_validation(runner)


def try_validation(runner: Runner) -> None:
    """Pass two batches through the validation and its metric.

    What no check of settings foresees fails here, not after an epoch. No hook
    is called, nothing is saved, and the random state is as before.

    Args:
        runner (Runner): The runner, its weights initialized or loaded.

    Raises:
        LaunchError: The validation fails, or does not give the metric of
            ``save_best``.
    """
    if runner._val_loop is None or not isinstance(
        runner._val_dataloader, dict
    ):
        return
    if divides_datasets(runner._val_evaluator):
        return  # it divides whole datasets among its metrics
    try:
        with (
            _keep_random_state(),
            silence(runner),
            tempfile.TemporaryDirectory() as folder,
        ):
            metrics, prefixes = _validate(runner, Path(folder))
    except Exception as error:
        lines = traceback.format_exc().strip().splitlines()
        raise LaunchError(
            f'The validation fails on its first {BATCHES} batches, tried '
            'before training:\n    '
            + '\n    '.join(lines[-9:])
            + '\nTo train all the same, add --no-trial.'
        ) from error
    # Metrics of COCO are empty where nothing was detected.
    empty = prefixes - {name.partition('/')[0] for name in metrics}
    for setting, name in _iter_followed(runner.cfg):
        known = name in metrics or name.partition('/')[0] in empty
        if metrics and not known:
            raise LaunchError(
                f'{setting}={name!r} is no metric of the validation, which '
                f'gives {", ".join(map(repr, metrics))}.'
            )


def _iter_followed(cfg: Config) -> Iterator[tuple[str, str]]:
    """Yield the settings that name a metric, and the name."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    best = hook.get('save_best') or []
    for name in [best] if isinstance(best, str) else best:
        if name != 'auto':
            yield 'save_best', name
    for place, scheduler in iter_schedulers(cfg):
        if follows_metric(scheduler):
            yield f'{place}.monitor', scheduler.get('monitor', 'loss')


class _FirstBatches:
    """The first batches of a loader; its dataset is whole."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        self.dataset = loader.dataset
        self.batch_size = loader.batch_size

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self._loader, BATCHES)

    def __len__(self) -> int:
        return min(BATCHES, len(self._loader))


def _validate(runner: Runner, folder: Path) -> tuple[dict, set[str]]:
    """Run the validation loop of the config on its first batches.

    Args:
        runner (Runner): The runner.
        folder (Path): Where metrics may write.

    Returns:
        tuple[dict, set[str]]: Its metrics, and the prefixes of all.
    """
    settings = copy.deepcopy(runner._val_dataloader)
    settings.update(num_workers=0, persistent_workers=False)
    settings['dataset'] = runner.val_loop.dataloader.dataset  # read already
    settings.pop('prefetch_factor', None)
    loader = runner.build_dataloader(settings, seed=runner.seed)
    evaluator = copy.deepcopy(runner._val_evaluator)
    for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
        for key in SAVING:
            if isinstance(metric, dict) and metric.get(key):
                metric[key] = str(folder / key) + Path(metric[key]).suffix
    whole = runner._val_dataloader, runner._val_evaluator
    training = runner.model.training
    runner._val_dataloader = _FirstBatches(loader)
    runner._val_evaluator = evaluator
    runner.call_hook = lambda *args, **kwargs: None
    try:
        loop = runner.build_val_loop(copy.deepcopy(runner.cfg.val_cfg))
        evaluate_only(loop.evaluator, _first_ids(loader))
        metrics = loop.evaluator.metrics
        prefixes = {str(getattr(one, 'prefix', None)) for one in metrics}
        return loop.run() or {}, prefixes
    finally:
        del runner.call_hook
        runner._val_dataloader, runner._val_evaluator = whole
        runner.model.train(training)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def evaluate_only(evaluator: Evaluator, ids: list) -> None:
    """Make metrics like COCO's go through some images only, not through all.

    Args:
        evaluator (Evaluator): The evaluator, changed in place.
        ids (list): ``img_id`` of the images; without any, nothing changes.
    """
    for metric in evaluator.metrics:
        if getattr(metric, 'img_ids', ()) is None:
            metric.img_ids = ids or None


def _first_ids(loader: DataLoader) -> list:
    """Return the ids of the images in a loader's first batches."""
    dataset: Any = loader.dataset
    if not hasattr(dataset, 'get_data_info'):
        return []  # one of torch
    count = BATCHES * (loader.batch_size or 1)
    indices = itertools.islice(loader.sampler, count)
    infos = map(dataset.get_data_info, indices)
    return [info['img_id'] for info in infos if 'img_id' in info]


@contextlib.contextmanager
def _keep_random_state() -> Iterator[None]:
    """Restore the state of all random generators."""
    cuda = torch.cuda.is_available()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state() if cuda else None
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu)


@contextlib.contextmanager
def silence(runner: Runner) -> Iterator[None]:
    """Keep the figures of an untrained model out of the log."""
    logger: logging.Logger = runner.logger
    before, logger.disabled = logger.disabled, True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.disabled = before
