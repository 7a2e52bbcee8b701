"""Load a model with the images that its file is compared on."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from torch import Tensor

from mmsmt.data.configured import find_class
from mmsmt.data.files import DataError
from mmsmt.deploy.predictor import Predictor
from mmsmt.deploy.sources import PictureError, find_pictures, iter_pictures
from mmsmt.launch.processes import build_runner
from mmsmt.launch.testing import prepare_testing
from mmsmt.runtimes.description import ExportError
from mmsmt.runtimes.model import fit_pipelines
from mmsmt.weights import read_classes

from .proof import Judge


@dataclass
class Material:
    """Hold a model, and images to compare and to calibrate on.

    Args:
        model (nn.Module): The host's model, in evaluation mode, on the CPU.
        classes (Sequence[str]): Names of its classes.
        number (int): Number of batches.
        batches (Iterable): Batches of one image, as the model takes them.
        calibration (Callable): Yields (3, H, W) BGR images.
        judge (Judge, optional): Of labelled images.
    """

    model: Any
    classes: Sequence[str]
    number: int
    batches: Iterable
    calibration: Callable[[], Iterator[Tensor]]
    judge: Judge | None = None

    def iter_calibration(self, batch: int) -> Iterator[np.ndarray]:
        """Yield (batch, 3, H, W) images to calibrate on, RGB."""
        for image in self.calibration():
            yield image.flip(0).numpy()[None].repeat(batch, 0)


def from_test_data(
    cfg: Config,
    checkpoint: str,
    size: Sequence[int] | None,
    images: int,
    calibrate: int,
    check: bool = True,
) -> Material:
    """Compare on the first images of the test data, calibrate on the last.

    Args:
        cfg (Config): The config, changed in place.
        checkpoint (str): File or URL.
        size (Sequence[int], optional): Height and width that images get.
        images (int): Number to compare on.
        calibrate (int): Number to calibrate on.
        check (bool): Check the data before.

    Raises:
        DataError: The data has a fault, or is missing.
    """
    try:
        prepare_testing(cfg, checkpoint, check=check)
    except DataError as error:
        raise DataError(
            f'{error}\nTo compare on photographs without labels instead: '
            '--sources FOLDER'
        ) from None
    cfg.test_dataloader.update(
        batch_size=1, num_workers=0, persistent_workers=False
    )
    cfg.test_dataloader.pop('prefetch_factor', None)
    if size:
        fit_pipelines(cfg, size)
    cfg.log_level = 'WARNING'
    # The checkpoint's weights are the average, which the hook would look for.
    cfg.custom_hooks = [
        hook
        for hook in cfg.get('custom_hooks') or []
        if not issubclass(find_class(hook, HOOKS) or Hook, EMAHook)
    ]
    runner = build_runner(cfg)
    runner.load_or_resume()
    loader = runner.build_dataloader(copy.deepcopy(cfg.test_dataloader))
    dataset = loader.dataset
    meta = dataset.metainfo

    def calibration() -> Iterator[Tensor]:
        for index in range(max(len(dataset) - calibrate, 0), len(dataset)):
            yield dataset[index]['inputs']

    return Material(
        runner.model.eval().cpu(),
        read_classes(cfg.load_from) or meta.get('classes') or (),
        min(images, len(loader)),
        islice(loader, images),
        calibration,
        Judge(runner, meta),
    )


def from_sources(
    cfg: Config,
    checkpoint: str,
    sources: Sequence[str],
    size: Sequence[int] | None,
    images: int,
    calibrate: int,
) -> Material:
    """Compare on the first photographs, calibrate on the last.

    Args:
        cfg (Config): The config, changed in place.
        checkpoint (str): File or URL.
        sources (Sequence[str]): Files, folders, patterns or URLs.
        size (Sequence[int], optional): Height and width that images get.
        images (int): Number to compare on.
        calibrate (int): Number to calibrate on.

    Raises:
        SourceError: A source does not exist.
        ExportError: A photograph cannot be read.
    """
    if size:
        fit_pipelines(cfg, size)
    predictor = Predictor(cfg, checkpoint, device='cpu')
    found = find_pictures(sources, predictor.reader)
    pictures = list(islice(iter_pictures(found), images + calibrate))

    def prepare(chosen: Sequence) -> Iterator[dict]:
        for picture in chosen:
            try:
                yield predictor.prepare(picture.read())
            except PictureError as error:
                raise ExportError(f"'{picture.source}': {error}") from None

    compared = pictures[:images]
    last = pictures[max(len(pictures) - calibrate, 0) :]
    return Material(
        predictor.model,
        predictor.classes,
        len(compared),
        (predictor.collate([data]) for data in prepare(compared)),
        lambda: (data['inputs'] for data in prepare(last)),
    )
