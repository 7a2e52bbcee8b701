"""Estimate a full run's time and memory from a rehearsal's iterations."""

import math
from collections.abc import Iterable
from statistics import median

from mmengine.config import Config

from .schedule import recipe_batch
from .sources import find_source


def estimate_full_run(
    seconds: Iterable[float],
    peak: int,
    capacity: int,
    cfg: Config,
    device: str,
    images: int | None = None,
) -> str:
    """Estimate the time and memory of a config's whole training.

    Args:
        seconds (Iterable[float]): Durations of iterations at the real size
            and batch; the first quarter, which is slow, is skipped.
        peak (int): Peak of memory, in bytes.
        capacity (int): The GPU's memory, in bytes.
        cfg (Config): The config before any change.
        device (str): The GPU's name.
        images (int, optional): Training images. Defaults to those of the
            recipe's dataset.

    Returns:
        str: The estimate, in several lines.
    """
    seconds = list(seconds)
    step = median(seconds[len(seconds) // 4 :])
    batch = cfg.train_dataloader.batch_size
    accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
    gpus = max(1, recipe_batch(cfg) // (batch * accumulate))
    of = ''
    if cfg.train_cfg.get('max_epochs'):
        of = f', with {images} images'
        if images is None:
            images = find_source(cfg).train_images
            of = f', with {images} images as in the paper'
        images *= cfg.train_cfg.max_epochs
        iterations = math.ceil(images / (batch * gpus))
    else:
        iterations = cfg.train_cfg.max_iters
    hours = iterations * step / 3600
    return (
        f'The full schedule{of}: {iterations} iterations of {step:.3f} s, '
        f'{hours:.1f} h on {gpus} GPUs ({device}),\nor {hours * gpus:.0f} h '
        'on one; loading, validation and communication are not included.\n'
        f'Memory at {batch} images a GPU: at least {peak / 2**30:.1f} of '
        f'{capacity / 2**30:.1f} GiB.'
    )
