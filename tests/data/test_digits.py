"""The embedded data: annotations against pixels, layouts, determinism."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy.ndimage import binary_dilation, binary_erosion

from mmsmt.data import digits

SIZE = (96, 128)


@pytest.fixture(scope='module')
def scenes():
    maker = digits.SceneMaker('train', SIZE, seed=3)
    return [maker(i) for i in range(40)]


def test_masks_are_the_pixels(scenes):
    """Inside a mask the digit's colour, outside all of them the background;
    each pixel belongs to one."""
    crowded = 0
    for scene in scenes:
        masks = np.stack([i.mask for i in scene.instances])
        assert masks.any((1, 2)).all() and masks.sum(0).max() == 1
        far = ~binary_dilation(masks.any(0), iterations=3)
        assert (scene.image[far] == scene.background[far]).all()
        for instance in scene.instances:
            inner = binary_erosion(instance.mask, iterations=2)
            error = np.abs(scene.image[inner] - instance.color)
            # Another digit's soft edge may reach in; the most is plain.
            if inner.sum() > 20:
                assert (error.max(-1) < 2).mean() > 0.5
        crowded += len(scene.instances) > 1
    assert crowded > 20


def test_occlusion(scenes):
    """Later digits cover earlier ones, never more than half of one."""
    hidden = 0
    for scene in scenes:
        assert scene.instances[-1].area == scene.instances[-1].full_area
        for instance in scene.instances:
            assert instance.area >= 0.5 * instance.full_area
            hidden += instance.area < instance.full_area
    assert hidden >= 10


def test_boxes_are_tight(scenes):
    for scene in scenes:
        for instance in scene.instances:
            x, y, w, h = instance.bbox
            inside = instance.mask[y : y + h, x : x + w]
            assert inside.sum() == instance.area
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any()


def test_splits_share_no_digit(scenes):
    train, val = map(digits.digit_rows, ('train', 'val'))
    assert len(val) == digits.NUM_VAL_DIGITS
    assert sorted([*train, *val]) == list(range(1797))
    maker = digits.SceneMaker('val', SIZE)
    used = {i.source for n in range(40) for i in maker(n).instances}
    assert used <= set(val)
    assert {i.source for s in scenes for i in s.instances} <= set(train)
    assert {i.digit for s in scenes for i in s.instances} == set(range(10))


def test_seed(scenes):
    again = digits.SceneMaker('train', SIZE, seed=3)(7)
    assert (again.image == scenes[7].image).all()
    other = digits.SceneMaker('train', SIZE, seed=4)(7)
    assert (other.image != scenes[7].image).any()


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    out = tmp_path_factory.mktemp('data') / 'coco'
    assert digits.write('coco', out, 6, 4, SIZE, seed=5)
    return out


@pytest.mark.parametrize('split, count', [('train', 6), ('val', 4)])
def test_coco_layout(coco, split, count):
    truth = COCO(coco / f'annotations/instances_{split}2017.json')
    maker = digits.SceneMaker(split, SIZE, seed=5)
    assert len(truth.imgs) == count
    for index in range(count):
        scene, info = maker(index), truth.imgs[index + 1]
        path = coco / f'{split}2017' / info['file_name']
        image = np.asarray(Image.open(path), int)
        assert image.shape == (info['height'], info['width'], 3)
        assert np.abs(image - scene.image).mean() < 3  # JPEG
        annotations = truth.imgToAnns[index + 1]
        assert len(annotations) == len(scene.instances)
        for annotation, instance in zip(annotations, scene.instances):
            mask = truth.annToMask(annotation)
            assert (mask == instance.mask).all()
            assert annotation['area'] == mask.sum()
            assert annotation['bbox'] == instance.bbox
            assert annotation['category_id'] == instance.digit + 1
    names = json.loads(
        (coco / f'annotations/digits_{split}2017.json').read_text()
    )
    assert [c['name'] for c in names['categories']] == list('0123456789')


def test_coco_categories_are_cocos(coco):
    from mmdet.datasets import CocoDataset

    truth = COCO(coco / 'annotations/instances_val2017.json')
    names = [c['name'] for c in truth.dataset['categories']]
    assert names == list(CocoDataset.METAINFO['classes'])
    ids = [c['id'] for c in truth.dataset['categories']]
    assert len(ids) == 80 and ids[-1] == 90 and sorted(ids) == ids


def test_ade20k_layout(tmp_path):
    digits.write('ade20k', tmp_path / 'ade', 3, 2, SIZE, seed=5)
    maker = digits.SceneMaker('val', SIZE, seed=5)
    for index in range(2):
        name = f'validation/ADE_val_{index + 1:08d}'
        labels = np.asarray(
            Image.open(tmp_path / 'ade/annotations' / f'{name}.png')
        )
        expected = np.ones(SIZE, int)
        for instance in maker(index).instances:
            expected[instance.mask] = 2 + instance.digit
        assert (labels == expected).all()
        assert (tmp_path / 'ade/images' / f'{name}.jpg').is_file()
    assert len(list((tmp_path / 'ade/images/training').iterdir())) == 3


def test_imagenet_layout(tmp_path):
    from mmpretrain.datasets import ImageNet

    out = tmp_path / 'imagenet'
    digits.write('imagenet', out, 20, 5, (64, 64), seed=5)
    dataset = ImageNet(data_root=str(out), split='train')
    maker = digits.SceneMaker(
        'train', (64, 64), max_digits=1, scales=(0.5, 0.9), seed=5
    )
    labels = {
        int(info['img_path'].split('_')[-1].split('.')[0]): info['gt_label']
        for info in (dataset.get_data_info(i) for i in range(len(dataset)))
    }
    assert labels == {i + 1: maker(i).instances[0].digit for i in range(20)}


def test_nothing_is_overwritten(tmp_path):
    out = tmp_path / 'digits'
    assert digits.write('ade20k', out, 1, 1, SIZE)
    (out / 'mine').touch()
    assert not digits.write('ade20k', out, 1, 1, SIZE)
    with pytest.raises(FileExistsError, match=r'num_train 1 \(asked: 2\)'):
        digits.write('ade20k', out, 2, 1, SIZE)
    with pytest.raises(FileExistsError, match="1 files .* 'mine'"):
        digits.write('ade20k', out, 2, 1, SIZE, force=True)
    (out / 'mine').unlink()
    assert digits.write('ade20k', out, 2, 1, SIZE, force=True)
    assert not digits.write('ade20k', out, 2, 1, SIZE)
    assert len(list((out / 'images/training').iterdir())) == 2
    real = tmp_path / 'coco'
    real.mkdir()
    (real / 'instances.json').touch()
    for force in (False, True):
        with pytest.raises(FileExistsError, match='left alone'):
            digits.write('coco', real, 1, 1, SIZE, force=force)
    assert [path.name for path in real.iterdir()] == ['instances.json']


def test_command_line(tool, tmp_path):
    command = ['dataset_converters/digits.py', '--layout', 'ade20k']
    command += ['--out', tmp_path / 'd', '--train', 2, '--val', 1]
    command += ['--size', 64, 64]
    status, output = tool(*command)
    assert status == 0 and '2 + 1 images written to' in output
    status, output = tool(*command)
    assert status == 0 and 'there already, kept' in output
    status, output = tool(*command, '--seed', 1)
    assert status == 1 and 'seed 0 (asked: 1)' in output
