"""Check that the files of a config's datasets exist."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmsmt.errors import UserError

from .configured import is_local, iter_datasets, type_name

LAYOUTS: dict[str, tuple[str, str]] = {
    'CocoDataset': (
        'annotations/instances_train2017.json\n'
        'annotations/instances_val2017.json\n'
        'train2017/000000000009.jpg ...\n'
        'val2017/000000000139.jpg ...',
        'https://cocodataset.org/#download: train2017.zip, val2017.zip and '
        'annotations_trainval2017.zip',
    ),
    'ADE20KDataset': (
        'images/training/ADE_train_00000001.jpg ...\n'
        'images/validation/ADE_val_00000001.jpg ...\n'
        'annotations/training/ADE_train_00000001.png ...\n'
        'annotations/validation/ADE_val_00000001.png ...',
        'http://data.csail.mit.edu/places/ADEchallenge/'
        'ADEChallengeData2016.zip',
    ),
    'ImageNet22K': (
        'ILSVRC2011fall_whole_map_train.txt\n'
        'ILSVRC2011fall_whole_map_val.txt\n'
        'fall11_whole/n00004475/n00004475_6590.JPEG ...',
        'https://image-net.org/download.php (fall 2011; registration) and '
        'https://github.com/SwinTransformer/storage/releases/tag/v2.0.1 (the '
        'two lists)',
    ),
    'ImageNet': (
        'train/n01440764/n01440764_18.JPEG ...\n'
        'val/n01440764/ILSVRC2012_val_00000293.JPEG ...',
        'https://image-net.org/download.php (ILSVRC 2012; registration)',
    ),
}
"""Expected files under ``data_root``, and their source, by dataset type."""


class DataError(UserError):
    """Error for data that is missing or does not fit the config."""


def check_data_files(cfg: Config, loaders: Iterable[str]) -> None:
    """Check that the dataset files exist.

    Args:
        cfg (Config): The config.
        loaders (Iterable[str]): Names of the loaders to check.

    Raises:
        DataError: A path is missing; the message names it, the expected
            layout and the source of the data.
    """
    for loader in loaders:
        for dataset in iter_datasets(cfg, loader):
            if not is_local(dataset):
                continue
            for path in _iter_paths(dataset):
                if not path.exists():
                    raise DataError(_describe_missing(loader, dataset, path))


def _describe_missing(loader: str, dataset: ConfigDict, path: Path) -> str:
    name = type_name(dataset)
    text = f"The data of {loader} was not found: '{path}' is missing."
    if name in LAYOUTS:
        layout, source = LAYOUTS[name]
        layout = layout.replace('\n', '\n    ')
        root = Path(dataset.get('data_root') or '.')
        text += f'\n\n{name} expects under {root}/\n    {layout}\n\n'
        own = f"mmsmt data '{root}' --out NEW_FOLDER"
        if (
            root.is_dir()
            and any(root.iterdir())
            and not _is_laid_out(name, root)
        ):
            return (
                f'{text}and it has another layout. For data of your own, this '
                f'writes annotations\nand a config: {own}'
            )
        what = 'coco' if name == 'CocoDataset' else 'the dataset'
        text += (
            f'Get it from {source}\n'
            f'and put or link it there, or give the folder of {what} '
            'with --data-root DIR.\n'
            'For data of your own: mmsmt data DIR --out NEW_FOLDER'
        )
    return f'{text}\nTo try mmsmt without any download: make demo'


def _is_laid_out(name: str, root: Path) -> bool:
    """Check whether a part of a dataset lies where it should."""
    paths = [root / line.split()[0] for line in LAYOUTS[name][0].split('\n')]
    images = ('.jpg', '.JPEG', '.png')
    return any(
        (path.parent if path.suffix in images else path).exists()
        for path in paths
    )


def _iter_paths(dataset: ConfigDict) -> Iterator[Path]:
    root = Path(dataset.get('data_root') or '')
    file = dataset.get('ann_file')
    if file and not isinstance(file, str):
        raise DataError(
            f'{type_name(dataset)}: ann_file is {file!r}, not the name of a '
            'file. Several are joined by a ConcatDataset.'
        )
    if file:
        yield root / file
    prefix = dataset.get('data_prefix') or {}
    for part in prefix.values() if isinstance(prefix, dict) else [prefix]:
        yield root / (part or '')
    split = dataset.get('split')
    if 'ImageNet' in type_name(dataset) and split and not prefix:
        yield root / split
