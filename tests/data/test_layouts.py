"""Layouts that tools and people make of the formats, right and wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import shapes
from support.coco_files import write_files

from mmsmt.data.convert.reading import read_folder
from mmsmt.data.convert.splitting import split_pictures
from mmsmt.data.files import DataError

pytestmark = pytest.mark.one_stack


def move(root: Path, old: str, new: str) -> None:
    (root / new).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(root / old, root / new)


def coco(root: Path) -> None:
    """Two splits whose images have the same names."""
    write_files(root)


def coco_beside(root: Path) -> None:
    write_files(root)
    for split in ('train', 'val'):
        move(root, split, f'images/{split}')
        move(root, f'{split}.json', f'annotations/instances_{split}2017.json')


def yolo_by_folders(root: Path) -> None:
    shapes.write_yolo(root, 8, 4)
    (root / 'data.yaml').write_text('names: {"0": circle, "1": a, "2": b}\n')
    text = 'names: run1\n'
    (root / 'args.yaml').write_text(text)


def yolo_of_another_machine(root: Path) -> None:
    shapes.write_yolo(root, 8, 4)
    for split in ('train', 'val'):
        names = sorted(
            path.name for path in (root / f'images/{split}').iterdir()
        )
        lines = [f'data/images/{split}/{name}\r\n' for name in names]
        text = '\ufeff' + ''.join(lines)
        (root / f'{split}.txt').write_text(text, encoding='utf-8')
    text = 'names: [circle, square, tri]\ntrain: train.txt\nval: val.txt\n'
    (root / 'data.yaml').write_text(text + 'test: ../test/images\n')


def voc_with_lists(root: Path) -> None:
    shapes.write_voc(root, 8, 4)
    for split in ('train', 'val'):
        path = root / f'ImageSets/Main/{split}.txt'
        lines = [f'JPEGImages/{n}.jpg' for n in path.read_text().split()]
        path.write_text('\ufeff' + '\r\n'.join(lines), encoding='utf-8')
    (root / 'classes.txt').write_text('circle\nsquare\ntri\n')


def voc_by_folders(root: Path) -> None:
    """Splits, each with images of the same names as the other's."""
    for split, count in (('train', 8), ('val', 4)):
        part = root / split
        part.mkdir()
        shapes.write_voc(part, count, 0)
        shutil.rmtree(part / 'ImageSets')
        move(root, f'{split}/JPEGImages', f'images/{split}')
        move(root, f'{split}/Annotations', f'xml/{split}')


def labelme_by_folders(root: Path) -> None:
    for split, count in (('train', 8), ('val', 4)):
        (root / split).mkdir()
        shapes.write_labelme(root / split, count)
        for suffix in ('jpg', 'json'):
            move(root, f'{split}/1.{suffix}', f'{split}/test_1.{suffix}')
        path = root / split / 'test_1.json'
        content = json.loads(path.read_text())
        content['imagePath'] = 'test_1.jpg'
        for shape in content['shapes']:
            shape['shape_type'] = None
        path.write_text(json.dumps(content))
    (root / '.vscode').mkdir()
    (root / '.vscode/settings.json').write_text('{// no JSON')


def voc_masks(root: Path) -> None:
    shapes.write_masks(root, 8, 4)
    lists = {}
    for split in ('train', 'val'):
        paths = sorted((root / f'images/{split}').iterdir())
        lists[split] = '\n'.join(path.stem for path in paths)
        for path in paths:
            move(
                root, f'images/{split}/{path.name}', f'JPEGImages/{path.name}'
            )
            name = f'{path.stem}.png'
            move(root, f'masks/{split}/{name}', f'SegmentationClass/{name}')
        (root / 'ImageSets/Segmentation').mkdir(parents=True, exist_ok=True)
        (root / f'ImageSets/Segmentation/{split}.txt').write_text(lists[split])
    for folder in ('images', 'masks'):
        shutil.rmtree(root / folder)
    (root / 'README.txt').write_text('words')


def kaggle(root: Path) -> None:
    for split, count in (('training_set', 3), ('val_set', 2)):
        (root / split).mkdir()
        shapes.write_folders(root / split, count)


def archive(root: Path) -> None:
    for split, count in (('seg_train', 3), ('seg_val', 2)):
        place = root / 'archive' / split / split
        place.mkdir(parents=True)
        shapes.write_folders(place, count)


@pytest.mark.parametrize(
    'make',
    [
        *(coco, coco_beside, yolo_by_folders, yolo_of_another_machine),
        *(voc_with_lists, voc_by_folders, labelme_by_folders, voc_masks),
        *(kaggle, archive),
    ],
)
def test_splits_are_those_of_the_layout(tmp_path, make):
    make(tmp_path)
    collection = read_folder(tmp_path)
    counts = {split: len(x) for split, x in collection.splits.items()}
    expected = {'train': 8, 'val': 4}
    if make in (kaggle, archive):
        expected = {'train': 12, 'val': 8}
    assert counts == expected
    for split, pictures in collection.splits.items():
        for picture in pictures:
            path = str(picture.path.relative_to(tmp_path))
            other = {'train': 'val', 'val': 'train'}[split]
            assert f'{other}/' not in path and f'{other}_set/' not in path
    trained = {picture.path for picture in collection.splits['train']}
    assert not trained & {p.path for p in collection.splits['val']}
    assert len(collection.classes) in (3, 4)


def one_missing(root: Path) -> None:
    coco(root)
    (root / 'val/2.jpg').unlink()


def mask_for_an_image(root: Path) -> None:
    shapes.write_coco(root, 8)
    move(root, 'images/3.jpg', 'masks/3.png')


def two_candidates(root: Path) -> None:
    shapes.write_coco(root, 8)
    shutil.copytree(root / 'images', root / 'copies')


def counted_twice(root: Path) -> None:
    shapes.write_coco(root, 8)
    folder = root / 'annotations'
    path = folder / 'instances_default.json'
    shutil.copy(path, folder / 'person_keypoints.json')


def wrong_folders_in_yaml(root: Path) -> None:
    shapes.write_yolo(root, 8, 4)
    text = 'names: [a, b, c]\ntrain: train/images\nval: val/images\n'
    (root / 'data.yaml').write_text(text)


def no_names(root: Path) -> None:
    shapes.write_yolo(root, 8, 4)
    (root / 'data.yaml').unlink()


def names_is_a_word(root: Path) -> None:
    shapes.write_yolo(root, 8, 4)
    (root / 'data.yaml').write_text('names: ant\ntrain: images/train\n')


def broken_yaml(root: Path) -> None:
    shapes.write_yolo(root, 8, 4)
    (root / 'data.yaml').write_text('names:\n\t- ant\n')


def only_images(root: Path) -> None:
    for i in range(3):
        shapes.draw(i, root / f'images/{i}.jpg')


def deeper(root: Path) -> None:
    for name in ('a', 'b'):
        shapes.draw(0, root / f'{name}/images/0.jpg')


def same_filename(root: Path) -> None:
    shapes.write_voc(root, 4, 2)
    for i in range(6):
        path = root / f'Annotations/{i:04d}.xml'
        path.rename(root / f'Annotations/x{i}.xml')
    for path in (root / 'Annotations').iterdir():
        text = path.read_text()
        a, b = text.index('<filename>'), text.index('</filename>')
        path.write_text(text[:a] + '<filename>0001.jpg' + text[b:])


def swapped_corners(root: Path) -> None:
    shapes.write_voc(root, 4, 2)
    for path in (root / 'Annotations').iterdir():
        text = path.read_text().replace('xmin', '?').replace('xmax', 'xmin')
        path.write_text(text.replace('?', 'xmax'))


def voc_size(root: Path) -> None:
    shapes.write_voc(root, 4, 2)
    path = root / 'Annotations/0001.xml'
    size = '<size><width>500</width><height>400</height></size>'
    text = path.read_text().replace('<filename>', size + '<filename>')
    path.write_text(text)


def binary(root: Path) -> None:
    write_values(root, (0, 255))
    (root / 'classes.txt').write_text('crack\n')


def gaps(root: Path) -> None:
    write_values(root, (0, 128))


def write_values(root: Path, values) -> None:
    for i in range(4):
        shapes.draw(i, root / f'images/{i}.jpg')
        pixels = np.zeros((shapes.HEIGHT, shapes.WIDTH), np.uint8)
        pixels[10:] = values[1]
        (root / 'masks').mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / f'masks/{i}.png')


def without_a_name(root: Path) -> None:
    shapes.write_coco(root, 8)
    path = root / 'annotations/instances_default.json'
    path.write_text(path.read_text().replace('"name"', '"title"'))


def only_a_test_set(root: Path) -> None:
    write_files(root)
    for name in ('train', 'train.json', 'val'):
        move(root, name, f'../elsewhere/{root.name}/{name}')
    move(root, 'val.json', 'test.json')
    move(root, f'../elsewhere/{root.name}/val', 'test')


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (one_missing, ["names the image '2.jpg', not found"]),
        (mask_for_an_image, ["names the image '3.jpg', not found"]),
        (two_candidates, ['which may be', '/copies/0.jpg', '/images/0.jpg']),
        (counted_twice, ["' is in '", 'would count twice']),
        (wrong_folders_in_yaml, ["names 'train/images', which is neither"]),
        (no_names, ['as labels of YOLO', 'classes.txt']),
        (names_is_a_word, ["names is 'ant', neither"]),
        (broken_yaml, ['data.yaml', 'is not whole YAML']),
        (only_images, ['in images only', 'no labels']),
        (deeper, ['such as a/images/0.jpg', 'no labels']),
        (same_filename, ['name the same image']),
        (swapped_corners, ['has the corners', 'are the smaller ones']),
        (voc_size, ['0001.xml', 'an image of 400 x 500']),
        (binary, ['0 and 255', '--classes background crack']),
        (gaps, ['numbers 0, 128', 'number the classes from 0']),
        (without_a_name, ['lacks what its format requires', "'name'"]),
        (only_a_test_set, ['test set only']),
    ],
)
def test_layouts_that_are_refused(tmp_path, make, words):
    root = tmp_path / 'data'
    root.mkdir()
    make(root)
    with pytest.raises(DataError) as caught:
        split_pictures(read_folder(root))
    for word in words:
        assert word in str(caught.value)


def test_classes_of_masks_in_another_order(tmp_path):
    shapes.write_masks(tmp_path, 4, 2)
    names = ['tri', 'square', 'circle', 'ground']
    assert read_folder(tmp_path, names=names).values == {
        0: 3,
        1: 2,
        2: 1,
        3: 0,
    }
    part = read_folder(tmp_path, names=['square', 'tri'])
    assert part.values == {2: 0, 3: 1}
    with pytest.raises(DataError, match='no class bird'):
        read_folder(tmp_path, names=['bird'])


def test_palette_with_named_colours(tmp_path):
    shapes.write_masks(tmp_path, 4, 2, colour=True)
    expected = read_folder(tmp_path)
    for path in (tmp_path / 'masks').rglob('*.png'):
        with Image.open(path) as image:
            image.quantize(8).save(path)
    found = read_folder(tmp_path)
    assert found.values == expected.values
    assert found.classes == ['ground', *shapes.CLASSES]


def test_names_of_folders_that_only_resemble_hints(tmp_path):
    """Nor is a class with the name of a split a split."""
    for name in ('cannon', 'bengal', 'train'):
        for i in range(3):
            shapes.draw(i, tmp_path / f'{name}/{i}.png')
    collection = read_folder(tmp_path)
    assert collection.classes == ['bengal', 'cannon', 'train']


def test_polygons_of_points(tmp_path):
    shapes.write_coco(tmp_path, 8)
    path = tmp_path / 'annotations/instances_default.json'
    content = json.loads(path.read_text())
    expected = read_folder(tmp_path)
    for note in content['annotations']:
        (flat,) = note['segmentation']
        note['segmentation'] = [
            [list(point) for point in zip(flat[::2], flat[1::2])]
        ]
    path.write_text(json.dumps(content))
    assert read_folder(tmp_path).task == expected.task == 'instance'


def test_command_leaves_nothing_half_done(tool_of, tmp_path):
    root = tmp_path / 'data'
    root.mkdir()
    shapes.write_folders(root, 3)
    status, text = tool_of('data', root, '--out', root / 'out')
    assert status == 2 and 'outside the folder of the data' in text
    victim = next(root.rglob('*.jpg'))
    victim.write_bytes(victim.read_bytes()[:-200])
    status, text = tool_of('data', root, '--out', tmp_path / 'out')
    assert status == 1 and 'cut off' in text and victim.name in text
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'file').write_text('')
    victim.unlink()
    status, text = tool_of('data', root, '--out', tmp_path / 'file/out')
    assert status == 1 and 'cannot be written' in text


def test_unlabelled_test_set(tool_of, tmp_path):
    root = tmp_path / 'data'
    root.mkdir()
    shapes.write_yolo(root, 8, 4)
    shapes.draw(1, root / 'images/test/100.jpg')
    with open(root / 'data.yaml', 'a') as file:
        file.write('test: images/test\n')
    status, text = tool_of('data', root, '--out', tmp_path / 'out')
    assert status == 0 and '1 test images have no label' in text
    status, text = tool_of('check', tmp_path / 'out/config.py')
    assert status == 0, text


def test_names_that_yaml_would_convert(tmp_path):
    """No and 007 are texts, as YOLO's users mean them."""
    shapes.write_yolo(tmp_path, 8, 4)
    names = ', '.join(['no', '007', 'null'][: len(shapes.CLASSES)])
    (tmp_path / 'data.yaml').write_text(
        f'train: images/train\nval: images/val\nnames: [{names}]'
    )
    collection = read_folder(tmp_path)
    assert ', '.join(collection.classes) == names
