"""Choose a sample of a config's own data for a rehearsal."""

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, init_default_scope

from mmsmt.data.check import find_kind
from mmsmt.data.configured import SPLITS, count_repeats, iter_datasets
from mmsmt.data.convert.sources import measure
from mmsmt.data.files import DataError, check_data_files
from mmsmt.data.segmentation import look_at_pair

OPENED = 500
"""Number of files that are opened to find their sizes and classes."""
FEW = 4


def has_data(cfg: Config) -> bool:
    """Check whether the files of a config's data are there."""
    loaders = [f'{s}_dataloader' for s in SPLITS if cfg.get(f'{s}_dataloader')]
    try:
        check_data_files(cfg, loaders)
    except DataError:
        return False
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    return all(
        find_kind(dataset)
        for loader in loaders
        for dataset in iter_datasets(cfg, loader)
    )


def choose_samples(
    cfg: Config, steps: int
) -> tuple[dict[str, list[list[int]]], int]:
    """Choose images of every dataset of a config.

    The largest and the smallest image are among them, and images of all
    classes.

    Args:
        cfg (Config): The config.
        steps (int): Least iterations of an epoch.

    Returns:
        tuple[dict[str, list[list[int]]], int]: Indices by split, for each
        dataset of it, and the number of images to train on.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    chosen: dict[str, list[list[int]]] = {}
    total = 0
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader') or {}
        least = FEW
        if split == 'train':
            least = steps * loader['batch_size']
        for settings in iter_datasets(cfg, f'{split}_dataloader'):
            dataset = _build(settings)
            if split == 'train':
                total += len(dataset) * count_repeats(cfg, settings)
            sizes, labels = _describe(dataset)
            indices = choose(sizes, labels, least)
            batch = loader.get('batch_size', 1)
            if split == 'train':  # whole batches
                count = math.ceil(len(indices) / batch) * batch
                indices = choose(sizes, labels, count)
            chosen.setdefault(split, []).append(indices)
    return chosen, total


def use_samples(cfg: Config, samples: dict[str, list[list[int]]]) -> str:
    """Restrict a config's datasets to samples; describe them.

    Args:
        cfg (Config): The config, changed in place.
        samples (dict): From :func:`choose_samples`.
    """
    said = []
    for split, parts in samples.items():
        datasets = iter_datasets(cfg, f'{split}_dataloader')
        for settings, indices in zip(datasets, parts):
            settings.indices = indices
        said.append(f'{sum(map(len, parts))} {split}')
    return ', '.join(said)


def choose(
    sizes: dict[int, int], labels: dict[int, set], least: int
) -> list[int]:
    """Choose the largest, the smallest, and images of all classes.

    Args:
        sizes (dict[int, int]): Number of pixels by index.
        labels (dict[int, set]): Classes by index.
        least (int): Number of images to choose at least, if there are.
    """
    chosen = [max(sizes, key=sizes.__getitem__)]
    chosen.append(min(sizes, key=sizes.__getitem__))
    seen = set().union(*(labels.get(i, set()) for i in chosen))
    by_label: dict[Any, list[int]] = {}
    for i, present in labels.items():
        for label in present:
            by_label.setdefault(label, []).append(i)
    for label in sorted(by_label, key=lambda x: (len(by_label[x]), str(x))):
        if label not in seen:
            best = max(by_label[label], key=lambda i: len(labels[i] - seen))
            chosen.append(best)
            seen |= labels[best]
    chosen = list(dict.fromkeys(chosen))
    rest = [i for i in sizes if i not in set(chosen)]
    step = max(1, len(rest) // max(1, least))
    for i in (*rest[::step], *rest):
        if len(chosen) >= least:
            break
        if i not in chosen:
            chosen.append(i)
    return sorted(chosen)


def _build(settings: ConfigDict) -> Any:
    """Build a dataset with its filters, without its pipeline."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        return DATASETS.build(
            ConfigDict(settings, pipeline=[], lazy_init=False)
        )


def _describe(dataset: Any) -> tuple[dict[int, int], dict[int, set]]:
    """Return the number of pixels and the classes of images, by index."""
    sizes: dict[int, int] = {}
    labels: dict[int, set] = {}
    for i, info in _iter_infos(dataset):
        if 'height' in info:
            sizes[i] = info['height'] * info['width']
        else:
            sizes[i] = math.prod(measure(Path(info['img_path'])))
        if 'instances' in info:
            labels[i] = {x['bbox_label'] for x in info['instances']}
        elif 'gt_label' in info:
            labels[i] = {info['gt_label']}
        elif info.get('seg_map_path'):
            _, values = look_at_pair((info['img_path'], info['seg_map_path']))
            labels[i] = set(values)
    return sizes, labels


def _iter_infos(dataset: Any) -> Iterator[tuple[int, dict]]:
    """Yield the images; of many whose file must be opened, a part."""
    if not len(dataset):
        raise DataError('A dataset has no image.')
    opened = 'height' not in dataset.get_data_info(0)
    step = max(1, len(dataset) // OPENED) if opened else 1
    for i in range(0, len(dataset), step):
        yield i, dataset.get_data_info(i)
