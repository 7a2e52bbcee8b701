"""Faults of folders of classes are found before training."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from support.configs import CONFIGS

from mmsmt.data import folders
from mmsmt.data.check import check_config

CLASSES = ('ant', 'bee', 'cat')
CONFIG = Config.fromfile(CONFIGS / 'smt_t_in1k.py')


@pytest.fixture
def root(tmp_path) -> Path:
    generator = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in CLASSES:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = generator.integers(0, 255, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f'{i}.jpg')
    return tmp_path


def make_config(root: Path, number: int = 3) -> Config:
    cfg = copy.deepcopy(CONFIG)
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.pop('split')
        part = 'train' if split == 'train' else 'val'
        dataset.update(
            type='CustomDataset', data_root=str(root), data_prefix=part
        )
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = number
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.topk = (1,)
    return cfg


def errors(cfg: Config) -> str:
    findings, _ = check_config(cfg)
    return '\n'.join(map(str, findings.errors))


def test_whole_folders_are_fine(root):
    findings, summaries = check_config(make_config(root))
    assert not len(findings)
    assert summaries['train'].images == 6
    assert dict(summaries['val'].objects) == dict.fromkeys(CLASSES, 2)


# Change the folder, words of the error.
FILES = {
    'val lacks a class': (
        lambda root: shutil.rmtree(root / 'val/bee'),
        ['val_dataloader: its classes (ant, cat)', 'without (bee)'],
    ),
    'val has another spelling': (
        lambda root: (root / 'val/bee').rename(root / 'val/Bee'),
        ['without (bee); with (Bee)'],
    ),
    'hidden folder': (
        lambda root: (root / 'train/.ipynb_checkpoints').mkdir(),
        ["the hidden folder '.ipynb_checkpoints' would be a class"],
    ),
    'no folders': (
        lambda root: [shutil.rmtree(p) for p in (root / 'val').iterdir()],
        ['it has no folder of a class'],
    ),
    'empty image': (
        lambda root: (root / 'val/ant/0.jpg').write_bytes(b''),
        ['1 of 6 images are empty files', 'val/ant/0.jpg'],
    ),
    'no image': (
        lambda root: [p.rename(f'{p}.x') for p in root.glob('val/*/*.jpg')],
        ['cannot read it', 'one folder per class'],
    ),
}


@pytest.mark.parametrize('name', FILES)
def test_files(root, name):
    change, words = FILES[name]
    change(root)
    text = errors(make_config(root))
    for word in words:
        assert word in text


def test_an_image_in_both_is_a_warning(root):
    shutil.copy(root / 'train/ant/0.jpg', root / 'val/bee/9.jpg')
    (warning,) = check_config(make_config(root))[0]
    assert not warning.error
    assert '1 of 7 images are among those of train' in str(warning)
    assert 'val/bee/9.jpg' in str(warning)


def test_classes_of_another_dataset(root):
    """The recipes' ImageNet has a thousand classes."""
    cfg = make_config(root, 1000)
    cfg.train_dataloader.dataset.type = 'ImageNet'
    text = errors(cfg)
    assert '3 folders (ant, bee, cat)' in text
    assert "dict(type='CustomDataset'" in text
    assert 'model.head: num_classes is 1000, and the data has 3' in text


def test_number_of_one_hot_labels(root):
    cfg = make_config(root)
    cfg.data_preprocessor.num_classes = 1000
    assert 'data_preprocessor: num_classes is 1000' in errors(cfg)


def test_order_of_classes(root):
    cfg = make_config(root)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.classes = ('cat', 'bee', 'ant')
    text = errors(cfg)
    assert 'the folders are in the order (ant, bee, cat)' in text


def test_a_list_of_labels(root):
    (root / 'val.txt').write_text('val/ant/0.jpg 0\nval/cat/1.jpg 3\n')
    cfg = make_config(root)
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(
            data_prefix='', ann_file='val.txt', classes=CLASSES
        )
    assert 'the labels 3 are none of the 3 classes (0 to 2)' in errors(cfg)


def test_a_list_of_numbers(root):
    """Without names: the highest label may be absent from a split."""
    (root / 'train.txt').write_text('train/ant/0.jpg 0\ntrain/cat/1.jpg 2\n')
    (root / 'val.txt').write_text('val/ant/0.jpg 0\nval/cat/1.jpg 1\n')
    cfg = make_config(root)
    for split in ('train', 'val', 'test'):
        part = 'train' if split == 'train' else 'val'
        cfg[f'{split}_dataloader'].dataset.update(
            data_prefix='', ann_file=f'{part}.txt'
        )
    assert not errors(cfg)
    cfg.model.head.num_classes = cfg.data_preprocessor.num_classes = 2
    assert 'num_classes is 2, and train_dataloader has labels' in errors(cfg)


def test_empty_classes_and_samples_are_warnings(root, monkeypatch):
    for path in (root / 'val/bee').iterdir():
        path.unlink()
    monkeypatch.setattr(folders, 'MOST', 4)
    findings, _ = check_config(make_config(root))
    assert not findings.errors
    text = '\n'.join(map(str, findings))
    assert '1 of 3 classes have no image: bee' in text
    assert 'of 6 images 3 were looked at' in text


def test_images_that_are_not_read_are_a_warning(root):
    for path in (root / 'train/ant').iterdir():
        Image.new('RGB', (9, 9)).save(path.with_suffix('.webp'))
    findings, _ = check_config(make_config(root))
    assert '2 of 8 images' in '\n'.join(map(str, findings))


def test_empty_list(root):
    cfg = make_config(root)
    (root / 'val.txt').write_text('')
    cfg.val_dataloader.dataset.update(
        ann_file='val.txt', classes=CLASSES, data_prefix=''
    )
    assert 'it names no image' in errors(cfg)
