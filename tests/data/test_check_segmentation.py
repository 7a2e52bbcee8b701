"""Faults of masks are found before training."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from support.configs import CONFIGS

from mmsmt.data.check import check_config
from mmsmt.data.summary import format_summaries

CLASSES = ('ground', 'tree', 'house')
CONFIG = Config.fromfile(CONFIGS / 'upernet_smt_t_160k.py')


@pytest.fixture(scope='module')
def pristine(tmp_path_factory) -> Path:
    """Eight images to train on and four to validate, with masks."""
    root = tmp_path_factory.mktemp('land')
    generator = np.random.default_rng(0)
    for split, number in (('train', 8), ('val', 4)):
        for kind in ('images', 'masks'):
            (root / kind / split).mkdir(parents=True)
        for i in range(number):
            pixels = generator.integers(0, 255, (40, 48, 3), np.uint8)
            Image.fromarray(pixels).save(root / f'images/{split}/{i}.jpg')
            mask = np.zeros((40, 48), np.uint8)
            mask[:20, 10:], mask[20:, 30:], mask[0] = 1, 2, 255
            Image.fromarray(mask).save(root / f'masks/{split}/{i}.png')
    return root


@pytest.fixture
def root(pristine, tmp_path) -> Path:
    return shutil.copytree(pristine, tmp_path / 'land')


def make_config(root: Path, number: int = 3) -> Config:
    cfg = copy.deepcopy(CONFIG)
    for split in ('train', 'val', 'test'):
        part = 'train' if split == 'train' else 'val'
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(
            type='BaseSegDataset',
            data_root=str(root),
            data_prefix=dict(
                img_path=f'images/{part}', seg_map_path=f'masks/{part}'
            ),
            metainfo=dict(classes=CLASSES),
        )
        for step in dataset.pipeline:
            if step.type == 'LoadAnnotations':
                step.reduce_zero_label = False
    cfg.model.decode_head.num_classes = number
    cfg.model.auxiliary_head.num_classes = number
    return cfg


def errors(cfg: Config) -> str:
    findings, _ = check_config(cfg)
    return '\n'.join(map(str, findings.errors))


def edit(path: Path, change) -> None:
    """Change the pixels of a mask."""
    with Image.open(path) as image:
        pixels = np.array(image)
    Image.fromarray(change(pixels)).save(path)


def test_a_whole_dataset_is_fine(root):
    findings, summaries = check_config(make_config(root))
    assert not len(findings)
    assert summaries['train'].images == 8 and summaries['val'].images == 4
    text = '\n'.join(format_summaries(summaries))
    assert 'house             8         4         4' in text


def test_masks_that_are_fine_too(root):
    """A palette, 16 bits, one bit; grey and transparent images."""
    masks = sorted((root / 'masks/train').iterdir())
    with Image.open(masks[0]) as image:
        indexed = image.convert('P')
    indexed.putpalette([*range(256)] * 3)
    indexed.putdata(list(Image.open(masks[0]).getdata()))
    indexed.save(masks[0])
    edit(masks[1], lambda x: x.astype(np.uint16))
    edit(masks[2], lambda x: x == 1)
    image = root / 'images/train/3.jpg'
    Image.open(image).convert('L').save(image)
    assert errors(make_config(root)) == ''


def reduce_zero_label(cfg: Config) -> None:
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.reduce_zero_label = True
        for step in dataset.pipeline:
            if step.type == 'LoadAnnotations':
                step.reduce_zero_label = True


def test_reduced_zero_label(root):
    """Values are those that the loader makes of the file's."""
    cfg = make_config(root, 2)
    reduce_zero_label(cfg)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo.classes = CLASSES[1:]
    assert errors(cfg) == ''
    edit(root / 'masks/train/5.png', lambda x: np.where(x == 2, 3, x))
    text = errors(cfg)
    assert 'the value 3, which is none of the 2 classes (1 to 2' in text
    for step in cfg.train_dataloader.dataset.pipeline:
        step.pop('reduce_zero_label', None)
    cfg.val_dataloader.dataset.reduce_zero_label = False
    assert 'reduce_zero_label is False in the dataset and True' in errors(cfg)


def test_reduced_zero_label_of_masks_from_0_is_a_warning(root):
    cfg = make_config(root)
    reduce_zero_label(cfg)
    findings, _ = check_config(cfg)
    text = '\n'.join(map(str, findings))
    assert not findings.errors
    assert "ignores the value 0 and takes 1 for 'ground'" in text
    assert 'no mask holds 3' in text


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('', 'it names no image'),
        ('0\n\n1\n', "1 of 3 lines are empty or have a suffix: 2 ''"),
        ('0.jpg\n1.jpg', "2 of 2 lines are empty or have a suffix: 1 '0.jpg'"),
        ('0\n1', ''),
    ],
)
def test_a_list_of_names(root, content, words):
    cfg = make_config(root)
    (root / 'train.txt').write_text(content)
    cfg.train_dataloader.dataset.ann_file = 'train.txt'
    text = errors(cfg)
    assert words in text and bool(words) == bool(text)


# Change the folder, words of the error.
FILES = {
    '0 and 255': (
        lambda root: [
            edit(path, lambda x: np.where(x == 1, 255, 0).astype(np.uint8))
            for path in root.glob('masks/*/*.png')
        ],
        ['hold 0 and 255 only, and 255 is ignored', 'Write 0 to 2 for'],
    ),
    'one value': (
        lambda root: edit(
            root / 'masks/train/2.png', lambda x: np.where(x == 2, 17, x)
        ),
        ['1 masks hold the value 17', '3 classes (0 to 2', 'train/2.png'],
    ),
    'above 255': (
        lambda root: edit(
            root / 'masks/val/2.png',
            lambda x: x.astype(np.uint16) * 128,
        ),
        ['masks hold numbers above 255', 'val/2.png', 'up to 32640'],
    ),
    'colour': (
        lambda root: edit(
            root / 'masks/train/1.png', lambda x: np.stack([x] * 3, -1)
        ),
        ['masks are in colour', 'train/1.png', 'one channel'],
    ),
    'another size': (
        lambda root: edit(root / 'masks/train/1.png', lambda x: x[:, :40]),
        ['1 of 8 masks have another size than their image', '40 x 40'],
    ),
    'missing': (
        lambda root: (root / 'masks/val/3.png').unlink(),
        ['1 of 4 masks are missing', 'val/3.png', 'seg_map_suffix'],
    ),
    'empty': (
        lambda root: (root / 'masks/val/3.png').write_bytes(b''),
        ['1 of 4 masks are empty files'],
    ),
    'image cut off': (
        lambda root: (root / 'images/val/3.jpg').write_bytes(
            (root / 'images/val/3.jpg').read_bytes()[:-200]
        ),
        ['1 of 4 images are cut off', 'images/val/3.jpg'],
    ),
    'suffix': (
        lambda root: [
            path.rename(path.with_suffix('.JPG'))
            for path in root.glob('images/train/*')
        ],
        ["no image ends in '.jpg'; 8 files end in '.JPG'", "='.JPG'"],
    ),
}


@pytest.mark.parametrize('name', FILES)
def test_files(root, name):
    change, words = FILES[name]
    change(root)
    text = errors(make_config(root))
    for word in words:
        assert word in text


SETTINGS = {
    'no metainfo': (
        lambda cfg: cfg.val_dataloader.dataset.pop('metainfo'),
        ['val_dataloader: BaseSegDataset has no classes', 'metainfo='],
    ),
    'ADE20KDataset kept': (
        lambda cfg: cfg.train_dataloader.dataset.update(type='ADE20KDataset'),
        ['not a part of those of ADE20KDataset', "type='BaseSegDataset'"],
    ),
    'ignored': (
        lambda cfg: cfg.train_dataloader.dataset.update(ignore_index=17),
        ['ignore_index is 17, and 255 in model.decode_head'],
    ),
    'no folder of masks': (
        lambda cfg: cfg.train_dataloader.dataset.data_prefix.pop(
            'seg_map_path'
        ),
        ['without the key seg_map_path'],
    ),
    'num_classes': (
        lambda cfg: cfg.model.auxiliary_head.update(num_classes=150),
        ['model.auxiliary_head: num_classes is 150', '3 classes'],
    ),
    'save_best': (
        lambda cfg: cfg.default_hooks.checkpoint.update(save_best='mIOU'),
        ["save_best='mIOU' is no metric", "save_best='mIoU'"],
    ),
}


@pytest.mark.parametrize('name', SETTINGS)
def test_settings(root, name):
    change, words = SETTINGS[name]
    cfg = make_config(root)
    change(cfg)
    text = errors(cfg)
    for word in words:
        assert word in text


def test_absent_classes_are_a_warning(root):
    for path in root.glob('masks/train/*.png'):
        edit(path, lambda x: np.where(x == 2, 0, x))
    findings, _ = check_config(make_config(root))
    (finding,) = findings
    assert str(finding) == (
        'warning  train_dataloader: 1 of 3 classes have no pixel: house'
    )


def test_absolute_folders_without_a_root(root):
    """As mmseg's documentation writes them."""
    cfg = make_config(root)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        del dataset['data_root']
        prefix = dataset.data_prefix
        dataset.data_prefix = {k: str(root / v) for k, v in prefix.items()}
    (root / 'masks/train/3.png').unlink()
    assert 'masks are missing' in errors(cfg)


def test_one_class_of_0_and_255(root):
    cfg = make_config(root, 1)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.metainfo = dict(classes=('crack',))
    for path in (root / 'masks').rglob('*.png'):
        pixels = np.zeros((40, 48), np.uint8)
        pixels[9:] = 255
        Image.fromarray(pixels).save(path)
    assert '255 is ignored' in errors(cfg)


@pytest.mark.parametrize('reduced', [True, False])
def test_one_class_in_all_masks(root, reduced):
    """A class without a background, or masks that hold one value."""
    cfg = make_config(root, 1 if reduced else 3)
    if reduced:
        reduce_zero_label(cfg)
        for split in ('train', 'val', 'test'):
            dataset = cfg[f'{split}_dataloader'].dataset
            dataset.metainfo = dict(classes=('crack',))
    for path in (root / 'masks').rglob('*.png'):
        edit(path, lambda x: (x == 1) * reduced)
    name = 'crack' if reduced else 'ground'
    assert f"every pixel is of the class '{name}'" in errors(cfg)


def test_a_dataset_of_background_beside_another(root):
    cfg = make_config(root)
    one = cfg.train_dataloader.dataset
    other = copy.deepcopy(one)
    other.data_prefix = dict(img_path='images/val', seg_map_path='masks/val')
    for path in root.glob('masks/train/*.png'):
        edit(path, lambda x: 0 * x)
    assert 'every pixel is of the class' in errors(cfg)
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[one, other]
    )
    assert 'every pixel' not in errors(cfg)


def test_images_of_another_suffix_are_a_warning(root):
    for i in range(4):
        path = root / f'images/train/{i}.jpg'
        path.rename(path.with_suffix('.JPG'))
    findings, _ = check_config(make_config(root))
    text = '\n'.join(map(str, findings))
    assert not findings.errors and '4 images in' in text and '.JPG' in text
