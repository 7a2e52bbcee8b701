"""Faults of datasets from public reports are found before training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.coco_files import (
    CLASSES,
    drop,
    errors,
    every,
    make_config,
    rename,
    write_files,
)

from mmsmt.data.check import check_config
from mmsmt.data.summary import format_summaries

pytestmark = pytest.mark.one_stack


@pytest.fixture(scope='module')
def pristine(tmp_path_factory) -> Path:
    return write_files(tmp_path_factory.mktemp('shapes'))


@pytest.fixture
def root(pristine, tmp_path) -> Path:
    return shutil.copytree(pristine, tmp_path / 'shapes')


def test_a_whole_dataset_is_fine(root):
    findings, summaries = check_config(make_config(root))
    assert not len(findings)
    assert summaries['train'].images == 8 and summaries['val'].images == 4
    text = '\n'.join(format_summaries(summaries))
    assert 'circle             8         4         4' in text


# Settings: change the config, words of the error.
SETTINGS = {
    'metainfo forgotten': (
        lambda cfg: [
            cfg[f'{s}_dataloader'].dataset.pop('metainfo')
            for s in ('train', 'val', 'test')
        ],
        ['none of its categories (circle, square, tri)', '80 classes'],
    ),
    'metainfo in train only': (
        lambda cfg: cfg.val_dataloader.dataset.pop('metainfo'),
        ['val_dataloader', 'are not those of train_dataloader'],
    ),
    'CLASSES as in mmdet 2': (
        lambda cfg: cfg.train_dataloader.dataset.update(
            metainfo=dict(CLASSES=CLASSES)
        ),
        ['CLASSES=', 'is ignored', 'metainfo=dict(classes='],
    ),
    'mask head': (
        lambda cfg: cfg.model.roi_head.mask_head.update(num_classes=2),
        ['model.roi_head.mask_head: num_classes is 2', 'has 3 classes'],
    ),
    'a string for a tuple': (
        lambda cfg: cfg.train_dataloader.dataset.update(
            metainfo=dict(classes='circle')
        ),
        ["the string 'circle', not a tuple", "('circle',)"],
    ),
    'masks are not loaded': (
        lambda cfg: [
            step.update(with_mask=False)
            for step in cfg.train_dataloader.dataset.pipeline
            if step.type == 'LoadAnnotations'
        ],
        ['train_dataloader: LoadAnnotations loads no masks', 'with_mask=True'],
    ),
    'a file of classes that is missing': (
        lambda cfg: cfg.train_dataloader.dataset.update(
            metainfo=dict(classes='names.txt')
        ),
        ["there is no file 'names.txt' of classes"],
    ),
    'a dataset that is unknown': (
        lambda cfg: cfg.train_dataloader.dataset.update(type='CocoDatset'),
        ["no dataset of the type 'CocoDatset'"],
    ),
    'an annotation file that is a folder': (
        lambda cfg: cfg.train_dataloader.dataset.update(ann_file='train'),
        ['cannot be read: IsADirectoryError'],
    ),
    'order of metainfo': (
        lambda cfg: [
            cfg[f'{s}_dataloader'].dataset.update(
                metainfo=dict(classes=('tri', 'square', 'circle'))
            )
            for s in ('train', 'val', 'test')
        ],
        ['in the order (circle, square, tri)', 'would swap the names'],
    ),
    'evaluator of another file': (
        lambda cfg: cfg.val_evaluator.update(ann_file='data/other.json'),
        ["it reads 'data/other.json', and val_dataloader", 'val.json'],
    ),
    'no img in data_prefix': (
        lambda cfg: cfg.val_dataloader.dataset.__setitem__(
            'data_prefix', dict(img_path='val')
        ),
        ["{'img_path': 'val'}, without the key img"],
    ),
    'images below min_size': (
        lambda cfg: cfg.train_dataloader.dataset.filter_cfg.update(
            min_size=100
        ),
        ['all 8 images are smaller than filter_cfg.min_size 100'],
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


# Files: the split, the change of its content, words of the error.
FILES = {
    'another category': (
        'train',
        rename('tri', 'helmet'),
        ["category 'helmet' with 8 objects is not among the classes"],
    ),
    'another spelling': (
        'train',
        rename('square', 'Square'),
        ["category 'Square' with 8 objects", "writes 'square'"],
    ),
    'another order in val': (
        'val',
        lambda c: c['categories'].reverse(),
        ['in the order (tri, square, circle)'],
    ),
    'a category is missing': (
        'val',
        lambda c: (
            c['categories'].pop(0),
            c['annotations'].__setitem__(
                slice(None),
                [n for n in c['annotations'] if n['category_id'] > 1],
            ),
        ),
        ['no category (circle)', 'every later class'],
    ),
    'ids from 0': (
        'val',
        every('id', lambda note: note['id'] - 1),
        ['1 annotations have the id 0', "annotation 0 in '0.jpg'"],
    ),
    'ids of others': (
        'val',
        every('id', 7),
        ['11 annotations have the id of another'],
    ),
    'no width': (
        'val',
        every('bbox', lambda n: [*n['bbox'][:2], 0, n['bbox'][3]]),
        ['12 of 12 objects have no positive width', "in '0.jpg'"],
    ),
    'outside': (
        'train',
        every('bbox', lambda n: [200, 10, 20, 20]),
        ['24 of 24 objects lie outside their image'],
    ),
    'fractions': (
        'train',
        every('bbox', lambda n: [v / 96 for v in n['bbox']]),
        ['24 of 24 boxes lie within 1 x 1 pixel', 'YOLO'],
    ),
    'corners': (
        'train',
        every('bbox', lambda n: [50, 50, 70, 70]),
        ['24 of 24 boxes have a third', 'corners [x1, y1, x2, y2]'],
    ),
    'not a number': (
        'train',
        every('bbox', lambda n: [1, 2, float('nan'), 3]),
        ['24 boxes are not four finite numbers'],
    ),
    'all crowd': (
        'train',
        every('iscrowd', 1),
        ['all 24 annotations have iscrowd=1'],
    ),
    'two points': (
        'train',
        every('segmentation', [[1, 2, 3, 4]]),
        ['24 masks have no polygon of three points or more'],
    ),
    'a stub first': (
        'val',
        every('segmentation', [[1, 1, 5, 5], [9, 9, 20, 9, 20, 20, 9, 20]]),
        ['12 masks begin with a polygon of fewer than three points'],
    ),
    'two categories of a name': (
        'train',
        lambda c: c['categories'].insert(0, dict(id=0, name='square')),
        ["2 categories have the name 'square' (ids 0, 2)", 'would make 2'],
    ),
    'one empty mask': (
        'train',
        lambda c: c['annotations'][4].update(segmentation=[]),
        ['1 annotations have no segmentation', "annotation 5 in '1.jpg'"],
    ),
    'RLE of another size': (
        'train',
        every('segmentation', dict(size=[10, 10], counts=[100])),
        ['24 masks have another size than their image'],
    ),
    'no iscrowd': ('val', drop('iscrowd'), ['12 annotations have no iscrowd']),
    'no area': ('train', drop('area'), ['24 annotations have no area']),
    'area is text': (
        'train',
        every('area', '480'),
        ['24 of 24 objects have no positive area'],
    ),
    'images are names': (
        'train',
        lambda c: c.update(images=['0.jpg']),
        ['CocoDataset of train_dataloader cannot be read: '],
    ),
    'no height': (
        'train',
        drop('height', 'images'),
        ['8 images have no height'],
    ),
    'no categories': (
        'train',
        lambda c: c.pop('categories'),
        ["it has no list 'categories'"],
    ),
    'LabelMe': (
        'train',
        lambda c: c.update(shapes=[], imagePath='0.jpg'),
        ['LabelMe file of one image'],
    ),
    'no annotations': (
        'val',
        lambda c: c['annotations'].clear(),
        ['it has no annotation', 'AP would be -1'],
    ),
    'half of the corners outside': (
        'train',
        every(
            'bbox',
            lambda n: [
                *n['bbox'][:2],
                n['bbox'][0] + n['bbox'][2],
                n['bbox'][1] + n['bbox'][3],
            ],
        ),
        ['third and fourth number', 'corners [x1, y1, x2, y2]'],
    ),
    'iscrowd is null': (
        'val',
        every('iscrowd', None),
        ['12 annotations have an iscrowd that is neither 0 nor 1'],
    ),
    'of absent images': (
        'train',
        every('image_id', 99),
        ['24 annotations name an image that is absent'],
    ),
}


RLE = dict(size=[96, 96])
MASKS = {
    'fractions': ([[0.1, 0.2, 0.5, 0.2, 0.5, 0.6]], 'within 1 x 1 pixel'),
    'elsewhere': ([[1010, 10, 1050, 10, 1050, 60]], 'lie outside their image'),
    'above': ([[10, -60, 50, -60, 50, -9]], 'lie outside their image'),
    'not numbers': ([[float('nan')] * 8], 'no finite numbers'),
    'infinite': ([[5, 5, float('inf'), 5, 9, 9]], 'no finite numbers'),
    'texts': ([['1'] * 12], 'no finite numbers'),
    'one point': ([[5] * 10], 'their points are in one pixel'),
    'one pixel': ([[50, 8.5] * 5], 'their points are in one pixel'),
    'many points elsewhere': ([[1010, 10] * 4 + [1050, 60]], 'lie outside'),
    'second infinite': (
        [[5, 5, 50, 5, 50, 50, 50, 60, 9, 9], [5, float('inf')] * 5],
        'no finite numbers',
    ),
    'RLE of nothing': (dict(RLE, counts=[9216]), 'masks are empty'),
    'short RLE': (dict(RLE, counts=[100, 50]), 'another number of pixels'),
    'long RLE': (dict(RLE, counts=[100, 50000]), 'another number of pixels'),
    'negative RLE': (dict(RLE, counts=[-5, 9221]), 'no numbers from 0 on'),
    'RLE of letters': (dict(RLE, counts='zzzz'), 'another number of pixels'),
}


@pytest.mark.parametrize('name', MASKS)
def test_masks(root, name):
    mask, words = MASKS[name]
    path = root / 'train.json'
    content = json.loads(path.read_text())
    every('segmentation', mask)(content)
    path.write_text(json.dumps(content))
    assert words in errors(make_config(root))


def test_compressed_masks_are_fine(root):
    from pycocotools.mask import encode

    generator = np.random.default_rng(0)
    path = root / 'train.json'
    content = json.loads(path.read_text())
    for note in content['annotations']:
        bits = generator.integers(0, 2, (96, 96), np.uint8)
        code = encode(np.asfortranarray(bits))
        code['counts'] = code['counts'].decode()
        note['segmentation'] = code
    path.write_text(json.dumps(content))
    assert errors(make_config(root)) == ''


def test_boxes_by_their_centers_are_a_warning(root):
    path = root / 'train.json'
    content = json.loads(path.read_text())
    for note in content['annotations']:
        x, y, w, h = note['bbox']
        note['bbox'] = [x + w / 2, y + h / 2 + 30, w, h]
    path.write_text(json.dumps(content))
    findings, _ = check_config(make_config(root))
    assert 'boxes leave their image by more' in '\n'.join(map(str, findings))


@pytest.mark.parametrize('name', FILES)
def test_files(root, name):
    split, change, words = FILES[name]
    path = root / f'{split}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    text = errors(make_config(root))
    assert str(path) in text
    for word in words:
        assert word in text


def test_truncated_json(root):
    path = root / 'train.json'
    path.write_text(path.read_text()[:-100])
    assert f'{path}: it is not whole JSON' in errors(make_config(root))


IMAGES = {
    'missing': (
        lambda path: path.unlink(),
        '1 of 8 images are missing: 3.jpg',
    ),
    'empty': (
        lambda path: path.write_bytes(b''),
        '1 of 8 images are empty files',
    ),
    'text': (lambda path: path.write_text('x'), 'cannot be read as images'),
    'cut off': (
        lambda path: path.write_bytes(path.read_bytes()[:-500]),
        '1 of 8 images are cut off',
    ),
    'a half': (
        lambda path: (
            Image.new('RGB', (96, 96)).save(path, 'BMP'),
            path.write_bytes(path.read_bytes()[:9000]),
        ),
        '1 of 8 images are cut off',
    ),
    'of icons': (
        lambda path: Image.new('RGB', (96, 96)).save(path, 'TGA'),
        "are of a format that mmcv lacks: '3.jpg' (TGA)",
    ),
    '32 bits': (
        lambda path: Image.new('F', (96, 96)).save(path, 'TIFF'),
        'have 32 bits, which mmcv lacks',
    ),
    'another size': (
        lambda path: Image.new('RGB', (50, 60)).save(path),
        'have another size, as displayed, than annotated: '
        "'3.jpg' 60 x 50 for 96 x 96",
    ),
}


@pytest.mark.parametrize('name', IMAGES)
def test_images(root, name):
    change, words = IMAGES[name]
    change(root / 'train' / '3.jpg')
    assert words in errors(make_config(root))


def test_images_one_folder_deeper(root):
    (root / 'train').rename(root / 'images')
    (root / 'train').mkdir()
    (root / 'images').rename(root / 'train' / 'images')
    text = errors(make_config(root))
    assert '8 of 8 images are missing' in text
    assert f"'0.jpg' is in '{root}/train/images': set data_prefix" in text


def test_exif_orientation(root):
    """mmcv turns the image; boxes in stored pixels would be wrong."""
    path = root / 'train' / '3.jpg'
    image = Image.new('RGB', (96, 64))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    labels = root / 'train.json'
    content = json.loads(labels.read_text())
    content['images'][3].update(height=64, width=96)
    labels.write_text(json.dumps(content))
    text = errors(make_config(root))
    assert "'3.jpg' 96 x 64 for 64 x 96" in text


def test_strange_but_whole_images(root):
    """16 bits are a warning; data after the end and many pixels are fine."""
    path = root / 'train' / '3.jpg'
    Image.new('I;16', (96, 96)).save(path, 'PNG')
    findings, _ = check_config(make_config(root))
    (warning,) = findings
    assert not warning.error and '16 bits' in warning.text
    Image.new('RGB', (96, 96)).save(path)
    path.write_bytes(path.read_bytes() + bytes(6000))
    assert errors(make_config(root)) == ''
    Image.new('1', (14000, 14000)).save(path, 'PNG')
    assert '14000 x 14000 for 96 x 96' in errors(make_config(root))


def test_few_lost_objects_are_a_warning(root):
    """Warn where one of hundreds of objects is dropped."""
    path = root / 'train.json'
    content = json.loads(path.read_text())
    notes = content['annotations']
    content['annotations'] = [
        dict(note, id=1 + 24 * k + i)
        for k in range(13)
        for i, note in enumerate(notes)
    ]
    content['annotations'][0]['bbox'] = [10, 10, 0.5, 20]
    path.write_text(json.dumps(content))
    findings, summaries = check_config(make_config(root))
    (warning,) = findings
    assert not warning.error
    assert '1 of 312 objects are narrower than one pixel' in warning.text
    assert sum(summaries['train'].objects.values()) == 311


def test_a_part_of_the_categories_may_be_chosen(root):
    findings, summaries = check_config(
        make_config(root, ('circle', 'tri'), number=2)
    )
    assert not findings.errors
    texts = [finding.text for finding in findings]
    assert "category 'square' with 8 objects" in texts[0]
    assert summaries['train'].objects == dict(circle=8, tri=8)


def test_command(python, root, tmp_path):
    config = tmp_path / 'config.py'
    cfg = make_config(root)
    cfg.dump(config)
    command = ('-m', 'mmsmt', 'check', config)
    output = python(*command).stdout
    assert 'The data is fine.' in output
    assert 'square             8         4         4' in output
    (root / 'val' / '2.jpg').unlink()
    result = python(*command, check=False)
    assert result.returncode == 1
    assert 'Error: The data has 1 fault' in result.stdout
    assert '1 of 4 images are missing: 2.jpg' in result.stdout


def test_local_backend_is_this_disk(root):
    cfg = make_config(root)
    cfg.train_dataloader.dataset.backend_args = dict(backend='local')
    (root / 'train/3.jpg').unlink()
    assert '1 of 8 images are missing' in errors(cfg)


def test_an_image_that_is_listed_twice_is_a_warning(root):
    content = json.loads((root / 'train.json').read_text())
    content['images'][1]['file_name'] = '0.jpg'
    (root / 'train.json').write_text(json.dumps(content))
    (warning,) = check_config(make_config(root))[0]
    assert not warning.error
    assert "1 images are in it more than once: ('0.jpg')" in str(warning)
