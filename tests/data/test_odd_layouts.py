"""Layouts whose labels would be taken for others, or lost in silence."""

import json
import shutil

import pytest
from PIL import Image
from support import shapes
from support.coco_files import write_files

from mmsmt.data.convert.command import check_pictures
from mmsmt.data.convert.reading import read_folder
from mmsmt.data.convert.splitting import split_pictures
from mmsmt.data.files import DataError

pytestmark = pytest.mark.one_stack


def unread_json(root):
    """Write that of VGG's annotator beside the images of each split."""
    for split in ('train', 'val'):
        for i in range(3):
            shapes.draw(i, root / f'{split}/{i}.jpg')
        (root / split / 'via_region_data.json').write_text('{"a.jpg1": {}}')


def no_categories(root):
    write_files(root)
    for path in root.glob('*.json'):
        content = json.loads(path.read_text())
        del content['categories']
        path.write_text(json.dumps(content))


def masks_in_jpeg(root):
    shapes.write_masks(root, 4, 2)
    for path in list((root / 'masks').rglob('*.png')):
        with Image.open(path) as image:
            image.save(path.with_suffix('.jpg'))
        path.unlink()


def masks_of_two_rooms(root):
    for place in ('a', 'b'):
        shapes.write_masks(root / place, 4, 0)
    for path in (root / 'a/masks/train', root / 'b/masks/train'):
        path.rename(root / f'{path.parts[-3]}_masks')
    for place in ('a', 'b'):
        shutil.rmtree(root / place / 'masks')
        (root / f'{place}_masks').rename(root / f'masks_{place}_1')


def train_and_more(root):
    write_files(root)
    (root / 'val').rename(root / 'more')
    text = (root / 'val.json').read_text()
    for i in range(4):
        (root / f'more/{i}.jpg').rename(root / f'more/m{i}.jpg')
        text = text.replace(f'"{i}.jpg"', f'"m{i}.jpg"')
    (root / 'more.json').write_text(text)
    (root / 'val.json').unlink()


def train_test_and_more(root):
    train_and_more(root)
    shutil.copytree(root / 'train', root / 'test')
    text = (root / 'train.json').read_text()
    for i in range(8):
        (root / f'test/{i}.jpg').rename(root / f'test/t{i}.jpg')
        text = text.replace(f'"{i}.jpg"', f'"t{i}.jpg"')
    (root / 'test.json').write_text(text)


def val_without_labels(root):
    write_files(root)
    content = json.loads((root / 'val.json').read_text())
    content['annotations'] = []
    (root / 'val.json').write_text(json.dumps(content))


def labels_of_another_name(root):
    shapes.write_yolo(root, 8, 4)
    (root / 'labels/val').rename(root / 'labels/valid')


def wrong_name_of_a_colour(root):
    shapes.write_masks(root, 4, 2, colour=True)


REFUSED = {
    unread_json: ['train, val', 'no labels could', 'via_region_data.json'],
    no_categories: ['train.json', 'and no categories'],
    masks_in_jpeg: ['are JPEG files', 'Write them as PNG'],
    masks_of_two_rooms: ['may be', 'masks_a_1/0.png', 'masks_b_1/0.png'],
    train_and_more: ['4 of no split', 'Name their folder or file val'],
    train_test_and_more: ['4 of no split', 'Name their folder or file val'],
    val_without_labels: ['None of the 4 images to validate with has a label'],
    labels_of_another_name: ['All 4 images of val have no text file'],
    wrong_name_of_a_colour: ['no class circel', 'labelmap.txt has ground'],
}


@pytest.mark.parametrize('make', REFUSED, ids=lambda make: make.__name__)
def test_layouts_that_are_refused(tmp_path, make):
    root = tmp_path / 'data'
    root.mkdir()
    make(root)
    names = None
    if make is wrong_name_of_a_colour:
        names = ['ground', 'circel', 'square', 'tri']
    with pytest.raises(DataError) as caught:
        split_pictures(read_folder(root, names=names))
    for word in REFUSED[make]:
        assert word in str(caught.value)


def test_a_val_set_of_another_name(tmp_path):
    write_files(tmp_path)
    (tmp_path / 'val').rename(tmp_path / 'eval')
    (tmp_path / 'val.json').rename(tmp_path / 'eval.json')
    found = read_folder(tmp_path)
    assert {s: len(x) for s, x in found.splits.items()} == dict(train=8, val=4)


def test_masks_of_each_scene(tmp_path):
    """Images of one name, in folders of their own; and other json files."""
    for place in ('a', 'b'):
        shapes.write_masks(tmp_path / f'segmentation/{place}', 4, 0)
        names = tmp_path / f'segmentation/{place}/classes.txt'
    names.rename(tmp_path / 'classes.txt')
    for path in list(tmp_path.rglob('masks/**/*.png')):
        with Image.open(path) as image:
            image.save(path.with_suffix('.tif'))
        path.unlink()
    (tmp_path / 'viewer.json').write_text('{"annotations": {"a": 1}}')
    found = read_folder(tmp_path)
    assert found.task == 'semantic' and len(list(found.pictures())) == 8
    for picture in found.pictures():
        parts = [p for p in picture.mask.parts if p in ('a', 'b')]
        assert parts == [p for p in picture.path.parts if p in ('a', 'b')]


def test_an_unlabelled_test_set_and_loose_images(tmp_path):
    for split in ('train', 'val'):
        (tmp_path / split).mkdir()
        shapes.write_folders(tmp_path / split, 3)
    shapes.draw(0, tmp_path / 'train/loose.jpg')
    for i in range(2):
        shapes.draw(i, tmp_path / f'test/{i}.jpg')
    (tmp_path / 'train/phone.HEIC').touch()
    found = read_folder(tmp_path)
    assert sorted(found.splits) == ['train', 'val']
    notes = ' '.join(found.notes)
    assert 'The 2 images of test have no label' in notes
    assert '1 images are in the folder of no class' in notes
    assert '1 files end in .heic and are left out' in notes


@pytest.mark.parametrize('kind', ['voc', 'labelme', 'yolo'])
def test_images_without_labels(tmp_path, kind):
    if kind == 'labelme':
        shapes.write_labelme(tmp_path, 6)
        one = next(tmp_path.rglob('*.json'))
    elif kind == 'voc':
        shapes.write_voc(tmp_path, 4, 2)
        one = tmp_path / 'Annotations/0001.xml'
    else:
        shapes.write_yolo(tmp_path, 4, 2)
        one = tmp_path / 'labels/train/1.txt'
    one.unlink()
    found = read_folder(tmp_path)
    notes = ' '.join(found.notes)
    assert '1 images' in notes and one.stem in notes
    assert ('taken for background' in notes) == (kind == 'yolo')
    assert len(list(found.pictures())) == (6 if kind == 'yolo' else 5)


def test_16_bits_are_told(tmp_path, capsys):
    shapes.write_folders(tmp_path, 2)
    for path in tmp_path.rglob('*.*'):
        Image.new('I;16', (40, 40), 900).save(path.with_suffix('.png'))
        path.unlink()
    found = read_folder(tmp_path)
    check_pictures(found, tmp_path)
    assert '16 bits per channel' in capsys.readouterr().out
