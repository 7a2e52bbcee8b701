"""A perfect detector reaches AP 1 on every file that the check accepts."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope
from pycocotools import mask as rle
from support.coco_files import errors, every, make_config, write_files

pytestmark = pytest.mark.one_stack


def as_rle(note, compressed: bool = True):
    """The mask of an annotation as RLE of COCO, or as lists of lengths."""
    code = rle.merge(rle.frPyObjects(note['segmentation'], 96, 96))
    if compressed:
        return dict(size=code['size'], counts=code['counts'].decode())
    bits = rle.decode(code).flatten(order='F')
    edges = np.flatnonzero(np.diff(bits)) + 1
    lengths = np.diff([0, *edges, len(bits)]).tolist()
    return dict(size=code['size'], counts=[0] * int(bits[0]) + lengths)


def renumber(ids):
    def change(content):
        for category, new in zip(content['categories'], ids):
            category['id'], old = new, category['id']
            for note in content['annotations']:
                if note['category_id'] == old:
                    note['new'] = new
        for note in content['annotations']:
            note['category_id'] = note.pop('new')

    return change


def part_of_mask(*points):
    def change(content):
        content['annotations'][0]['segmentation'].append(list(points))

    return change


def first(**settings):
    """Change the first annotation."""
    return lambda content: content['annotations'][0].update(settings)


CHANGES = {
    'as it is': lambda content: None,
    'category ids from 0': renumber([0, 1, 2]),
    'category ids with gaps': renumber([3, 40, 41]),
    'large ids': every('id', lambda note: note['id'] + 10**12),
    'compressed RLE': every('segmentation', as_rle),
    'plain RLE': every('segmentation', lambda note: as_rle(note, False)),
    'negatives': lambda content: content['annotations'].__delitem__(
        slice(0, 3)
    ),
    'one crowd': first(
        iscrowd=1, segmentation=dict(size=[96, 96], counts=[0, 96**2])
    ),
    'one ignored': first(ignore=1),
    'partly outside': every(
        'bbox', lambda note: [note['bbox'][0], -4, 24, 40]
    ),
    'one outside': first(bbox=[200, 200, 5, 5]),
    'one without width': first(bbox=[5, 5, 0, 9]),
    'one narrower than a pixel': first(bbox=[5, 5, 0.5, 9]),
    'one without area': first(area=0),
    'wrong areas': every('area', 5.0),
    'on one line': first(segmentation=[[5, 5, 9, 9, 13, 13]]),
    'two parts': part_of_mask(1, 1, 9, 1, 9, 9),
    'a part of two points': part_of_mask(1, 1, 9, 9),
    'a part of odd length': part_of_mask(1, 1, 9, 9, 3, 4, 5),
    'ids from 0': every('id', lambda note: note['id'] - 1),
    'repeated annotations': lambda content: content['annotations'].extend(
        dict(note, id=note['id'] + 500) for note in content['annotations'][:4]
    ),
    'no info': lambda content: content.pop('info', None),
}


def perfect_ap(cfg) -> dict[str, float]:
    """AP of predictions that are what the loader gives."""
    from mmdet.evaluation import CocoMetric

    init_default_scope('mmdet')
    settings = cfg.val_dataloader.dataset.copy()
    settings.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='PackDetInputs'),
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = DATASETS.build(settings)
        metric = CocoMetric(cfg.val_evaluator.ann_file, ['bbox', 'segm'])
        metric.dataset_meta = dataset.metainfo
        for i in range(len(dataset)):
            sample = dataset[i]['data_samples']
            truth = sample.gt_instances
            found = dict(
                bboxes=truth.bboxes.tensor,
                labels=truth.labels,
                scores=torch.ones(len(truth)),
                masks=torch.from_numpy(truth.masks.masks).bool(),
            )
            metric.process({}, [dict(sample.to_dict(), pred_instances=found)])
        return metric.evaluate(len(dataset))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp('shapes'))


@pytest.mark.parametrize('name', CHANGES)
def test_accepted_files(root, tmp_path, name):
    content = json.loads((root / 'val.json').read_text())
    CHANGES[name](content)
    cfg = make_config(root)
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(content))
    for part in ('val', 'test'):
        cfg[f'{part}_dataloader'].dataset.ann_file = str(path)
        cfg[f'{part}_evaluator'].ann_file = str(path)
    refused = errors(cfg)
    try:
        metrics = perfect_ap(cfg)
        lowest = min(metrics['coco/bbox_mAP'], metrics['coco/segm_mAP'])
    except Exception:  # the metric fails, as it would in a run
        lowest = 0.0
    assert lowest >= 0.99 or refused
    fine = ('as it is', 'category', 'large', 'compressed', 'plain', 'partly')
    fine += (
        'negatives',
        'one crowd',
        'wrong',
        'two parts',
        'no info',
        'a part',
    )
    assert not (refused and name.startswith(fine)), refused
