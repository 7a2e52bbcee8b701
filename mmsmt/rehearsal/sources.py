"""Replace a config's data by digits, and its weights by local files."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config, ConfigDict

from mmsmt import weights
from mmsmt.data import digits
from mmsmt.data.configured import iter_datasets, set_data_root, type_name
from mmsmt.data.files import DataError, check_data_files
from mmsmt.models import SMT

VAL_IMAGES = 4


class Source(NamedTuple):
    """Synthetic replacement of a dataset.

    Args:
        layout (str): One of :data:`mmsmt.data.digits.LAYOUTS`.
        train_images (int): Training images of the real dataset, as the hosts
            load it.
        size (tuple[int, int]): Height and width of a usual image, in pixels.
    """

    layout: str
    train_images: int
    size: tuple[int, int]


SOURCES = {
    'CocoDataset': Source('coco', 117_266, (480, 640)),
    'ADE20KDataset': Source('ade20k', 20_210, (512, 683)),
    'ImageNet': Source('imagenet', 1_281_167, (375, 500)),
    'ImageNet22K': Source('imagenet22k', 14_197_122, (375, 500)),
}


def find_source(cfg: Config) -> Source:
    """Return the replacement of the config's training data.

    Raises:
        DataError: The config has no training data, or there are no digits in
            its layout.
    """
    for dataset in iter_datasets(cfg, 'train_dataloader'):
        name = type_name(dataset)
        if name in SOURCES:
            return SOURCES[name]
        raise DataError(
            f"There are no digits in the layout of '{name}', only in "
            f'{", ".join(SOURCES)}.'
        )
    raise DataError(f"'{cfg.filename}' has no training data.")


def use_digits(cfg: Config, root: Path, steps: int, scale: float) -> None:
    """Write scenes of digits and replace the data by them.

    Args:
        cfg (Config): The config, changed in place.
        root (Path): Folder for the scenes; existing scenes are kept.
        steps (int): Training iterations per epoch.
        scale (float): Factor of the image size.
    """
    source = find_source(cfg)
    lists = [x.get('ann_file') for x in iter_datasets(cfg, 'train_dataloader')]
    if source.layout == 'imagenet22k' and not all(lists):
        raise DataError(
            'Digits have ten classes, and lists of images: without lists '
            'ImageNet-22K is its 21,841 folders. Rehearse smt_l_in22k.py.'
        )
    height, width = (max(32, round(side * scale)) for side in source.size)
    train = steps * cfg.train_dataloader.batch_size
    val = cfg.get('val_dataloader') or {}
    num_val = max(VAL_IMAGES, val.get('batch_size', 1))
    root = root / f'{source.layout}_{train}_{num_val}_{height}x{width}'
    digits.write(source.layout, root, train, num_val, (height, width))
    set_data_root(cfg, str(root))
    for part in ('train', 'val', 'test'):
        for dataset in iter_datasets(cfg, f'{part}_dataloader'):
            if source.layout == 'coco':
                _rename_coco(dataset, root, part)
    loaders = [f'{p}_dataloader' for p in ('train', 'val', 'test')]
    try:
        check_data_files(cfg, tuple(name for name in loaders if cfg.get(name)))
    except DataError as error:
        line = str(error).splitlines()[0]
        raise DataError(
            f'A rehearsal has digits in the usual folders only. {line}'
        ) from None


def _rename_coco(dataset: ConfigDict, root: Path, part: str) -> None:
    """Write the files and classes of a user-defined COCO dataset."""
    split = 'train' if part == 'train' else 'val'
    images = (dataset.get('data_prefix') or {}).get('img') or ''
    labels = dataset.get('ann_file') or ''
    for path in (images, labels):
        if not dataset.get('data_root') or Path(path).is_absolute():
            raise DataError(
                'A rehearsal writes digits under data_root; paths such as '
                f"'{path}' must be relative to it."
            )
    names = (dataset.get('metainfo') or {}).get('classes')
    names = [names] if isinstance(names, str) else list(names or [])
    stock = root / f'{split}2017'
    if (root / images) == stock and (root / labels).exists() and not names:
        return
    content = json.loads(
        (root / 'annotations' / f'instances_{split}2017.json').read_text()
    )
    (root / images).mkdir(parents=True, exist_ok=True)
    for image in content['images']:
        path = stock / image['file_name']
        if (root / images) != stock:  # one folder may be for all splits
            image['file_name'] = os.path.relpath(path, root / images)
    if names:
        content['categories'] = [
            dict(id=i, name=name) for i, name in enumerate(names, 1)
        ]
        for note in content['annotations']:
            digit = digits.COCO_IDS.index(note['category_id'])
            note['category_id'] = 1 + digit % len(names)
    (root / labels).parent.mkdir(parents=True, exist_ok=True)
    (root / labels).write_text(json.dumps(content))


def use_local_weights(cfg: Config, folder: Path) -> list[str]:
    """Fetch the weights that the model starts from.

    A file that cannot be fetched is replaced by random weights in the released
    format, so that reading and matching are rehearsed too.

    Args:
        cfg (Config): The config, changed in place to the paths of the files.
        folder (Path): Folder for random weights.

    Returns:
        list[str]: A description of each file.
    """
    said: dict[str, str] = {}
    for part in cfg.model.values():
        init_cfgs = part.get('init_cfg') if isinstance(part, dict) else None
        for init_cfg in (
            init_cfgs if isinstance(init_cfgs, list) else [init_cfgs]
        ):
            url = str((init_cfg or {}).get('checkpoint'))
            if not url.startswith(('http://', 'https://')):
                continue  # on disk, or of a kind that mmengine reads
            try:
                path = weights.fetch_checkpoint(url)
                said[url] = str(path)
            except weights.CheckpointError as error:
                if type_name(cfg.model.backbone) != 'SMT':
                    raise
                path = folder / Path(url).name
                _write_random_weights(cfg, path, init_cfg.get('prefix'))
                reason = str(error).splitlines()[1].strip(' ().')
                said[url] = f'random ones for {path.name} ({reason})'
            init_cfg.checkpoint = str(path)
    return list(said.values())


def _write_random_weights(cfg: Config, path: Path, prefix: str | None) -> None:
    """Write random weights of the config's arch, with a classifier."""
    args = dict(cfg.model.backbone, init_cfg=None, out_indices=(3,))
    args.pop('type')
    model = SMT(**args)
    classes = 21841 if '22k' in path.name else 1000
    state = model.state_dict()
    state['head.weight'] = torch.randn(classes, model.embed_dims[-1]) * 0.02
    state['head.bias'] = torch.zeros(classes)
    if prefix:
        prefix = prefix.rstrip('.')
        state = {f'{prefix}.{name}': value for name, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(model=state), path)
