"""A small COCO dataset, a config for it, and ways to spoil it."""

import copy
import json
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from mmsmt.data.check import check_config

from .configs import CONFIGS

CLASSES = ('circle', 'square', 'tri')


def write_files(root: Path) -> Path:
    """Eight images to train on and four to validate, three objects each."""
    generator = np.random.default_rng(0)
    for split, number in (('train', 8), ('val', 4)):
        (root / split).mkdir()
        content = dict(
            images=[],
            annotations=[],
            categories=[dict(id=i, name=n) for i, n in enumerate(CLASSES, 1)],
        )
        for i in range(number):
            name = f'{i}.jpg'
            pixels = generator.integers(0, 255, (96, 96, 3), np.uint8)
            Image.fromarray(pixels).save(root / split / name)
            content['images'].append(
                dict(id=i, file_name=name, height=96, width=96)
            )
            for j in range(3):
                x, y, w, h = 30 * j + 2, 10 + 5 * i, 24, 20
                content['annotations'].append(
                    dict(
                        id=1 + 3 * i + j,
                        image_id=i,
                        category_id=1 + j,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=[[x, y, x + w, y, x + w, y + h]],
                    )
                )
        (root / f'{split}.json').write_text(json.dumps(content))
    return root


CONFIG = Config.fromfile(CONFIGS / 'mask_rcnn_smt_t_1x.py')


def make_config(root: Path, classes=CLASSES, number: int = 3) -> Config:
    cfg = copy.deepcopy(CONFIG)
    for split in ('train', 'val', 'test'):
        part = 'train' if split == 'train' else 'val'
        cfg[f'{split}_dataloader'].dataset.update(
            data_root=str(root),
            ann_file=f'{part}.json',
            data_prefix=dict(img=part),
            metainfo=dict(classes=classes),
        )
    cfg.param_scheduler[0].end = 10  # of 48 iterations
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(root / 'val.json')
    for head in ('bbox_head', 'mask_head'):
        cfg.model.roi_head[head].num_classes = number
    return cfg


def errors(cfg: Config) -> str:
    findings, _ = check_config(cfg)
    return '\n'.join(map(str, findings.errors))


def every(key, value):
    """Set a key of every annotation."""

    def change(content):
        for note in content['annotations']:
            note[key] = value(note) if callable(value) else value

    return change


def drop(key, where='annotations'):
    def change(content):
        for item in content[where]:
            item.pop(key, None)

    return change


def rename(old, new):
    def change(content):
        for category in content['categories']:
            if category['name'] == old:
                category['name'] = new

    return change
