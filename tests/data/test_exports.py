"""Layouts as labelling tools export them, and as people copy them."""

import json

import pytest
from PIL import Image
from support import shapes

from mmsmt.data.convert.reading import read_folder
from mmsmt.data.convert.splitting import split_pictures
from mmsmt.data.convert.writing import make_coco
from mmsmt.data.files import DataError

pytestmark = pytest.mark.one_stack
JSON = 'annotations/instances_default.json'


def change_coco(root, change, count=6, name=JSON):
    """Write a COCO file and apply a function to its annotations."""
    if not (root / JSON).exists():
        shapes.write_coco(root, count)
    content = json.loads((root / name).read_text())
    change(content)
    (root / name).write_text(json.dumps(content))


def paint(content, attributes=True):
    """Make the first object a painted mask, as CVAT writes it."""
    mask = dict(size=[96, 120], counts=[0, 50, 96 * 120 - 50])
    for i, note in enumerate(content['annotations']):
        note['iscrowd'] = 0
        if attributes:
            note['attributes'] = {'occluded': False}
        if i == 0:
            note.update(iscrowd=1, segmentation=mask)


def sizes(found):
    return {split: len(pictures) for split, pictures in found.splits.items()}


def test_painted_masks_are_objects(tmp_path):
    change_coco(tmp_path, paint)
    found = read_folder(tmp_path)
    assert not any(t.crowd for p in found.pictures() for t in p.things)
    assert '1 masks are marked as crowds, as CVAT marks' in found.notes[0]


def test_crowds_are_counted(tmp_path):
    change_coco(tmp_path, lambda content: paint(content, False))
    found = read_folder(tmp_path)
    assert sum(t.crowd for p in found.pictures() for t in p.things) == 1
    assert '1 of 10 objects are crowds' in found.notes[0]
    assert found.task == 'instance'

    def mark_all(content):
        for note in content['annotations']:
            note.update(iscrowd=1)

    change_coco(tmp_path, mark_all)
    with pytest.raises(DataError, match='all 10 objects are crowds'):
        read_folder(tmp_path)


def test_a_crowd_without_a_mask(tmp_path):
    """Masks are trained: mmdet needs one of each object."""

    def change(content):
        content['annotations'][0].update(iscrowd=1, segmentation=[])

    change_coco(tmp_path, change)
    found = read_folder(tmp_path)
    assert found.task == 'instance'
    content = make_coco(found, list(found.pictures()), tmp_path)
    assert all(note['segmentation'] for note in content['annotations'])


def test_objects_to_ignore_and_flat_polygons(tmp_path):
    def change(content):
        content['annotations'][0]['ignore'] = 1
        for note in content['annotations']:
            note['segmentation'] = note['segmentation'][0]

    change_coco(tmp_path, change)
    found = read_folder(tmp_path)
    assert sum(len(p.things) for p in found.pictures()) == 9
    assert '1 objects to ignore are left out' in found.notes[0]
    assert found.task == 'instance'


def test_an_image_twice_in_a_file(tmp_path):
    def change(content):
        content['images'].append(dict(content['images'][0], id=99))

    change_coco(tmp_path, change)
    with pytest.raises(DataError, match='each time as another image'):
        read_folder(tmp_path)


def test_a_damaged_file_beside_whole_ones(tmp_path):
    shapes.write_coco(tmp_path, 6)
    text = (tmp_path / JSON).read_text()
    (tmp_path / 'annotations/instances_val.json').write_text(text[:200])
    with pytest.raises(DataError, match='val.json.* is not whole JSON'):
        read_folder(tmp_path)


def test_splits_of_names_with_dots_and_capitals(tmp_path):
    """``train.coco.json``, and CVAT's subsets in ImageSets."""
    shapes.write_coco(tmp_path / 'coco', 6)
    (tmp_path / 'coco' / JSON).rename(tmp_path / 'coco/val.coco.json')
    assert sizes(read_folder(tmp_path / 'coco')) == dict(val=6)
    root = shapes.write_voc(tmp_path / 'voc', 4, 2)
    for old, new in (('train', 'Train'), ('val', 'Validation')):
        path = root / f'ImageSets/Main/{old}.txt'
        path.rename(path.with_stem(new))
    assert sizes(read_folder(root)) == dict(train=4, val=2)
    (root / 'JPEGImages/0000.jpg').rename(root / 'JPEGImages/frame 1.jpg')
    (root / 'Annotations/0000.xml').rename(root / 'Annotations/frame 1.xml')
    lines = 'frame 1\n0001\n0002\n0003\n'
    (root / 'ImageSets/Main/Train.txt').write_text(lines)
    assert sizes(read_folder(root)) == dict(train=4, val=2)


def test_a_val_set_and_images_of_no_split(tmp_path):
    shapes.write_yolo(tmp_path, 4, 2)
    for kind in ('images', 'labels'):
        (tmp_path / kind / 'val').rename(tmp_path / f'{kind}_val')
        for path in list((tmp_path / kind / 'train').iterdir()):
            path.rename(tmp_path / kind / path.name)
    for path in list((tmp_path / 'labels_val').iterdir()):
        path.rename(tmp_path / 'images_val' / path.name)
    (tmp_path / 'data.yaml').unlink()
    (tmp_path / 'classes.txt').write_text('\n'.join(shapes.CLASSES))
    found = read_folder(tmp_path)
    split_pictures(found)
    assert sizes(found) == dict(train=4, val=2)
    names = sorted(picture.path.name for picture in found.splits['val'])
    assert names == ['4.jpg', '5.jpg']
    assert 'The 4 images of no split are trained on.' in found.notes


def test_lists_of_darknet(tmp_path):
    shapes.write_yolo(tmp_path, 4, 2)
    (tmp_path / 'data.yaml').unlink()
    (tmp_path / 'obj.names').write_text('\n'.join(shapes.CLASSES))
    lists = dict(train=[], valid=[])
    folder = tmp_path / 'obj'
    folder.mkdir()
    for split, i in shapes.splits(4, 2):
        for kind, end in (('images', 'jpg'), ('labels', 'txt')):
            path = tmp_path / kind / split / f'{i}.{end}'
            if path.exists():
                path.rename(folder / path.name)
        lists[split.replace('val', 'valid')].append(f'data/obj/{i}.jpg\n')
    for name, lines in lists.items():
        (tmp_path / f'{name}.txt').write_text(''.join(lines))
    assert sizes(read_folder(tmp_path)) == dict(train=4, val=2)


@pytest.mark.parametrize(
    'text',
    [
        'train: ../train/images\nval: ../valid/images\n',
        'train: train\\images\nval: valid\\images\n',
        'train: C:\\Users\\me\\d\\train\\images\nval: D:/d/valid/images\n',
        'train: /content/x/train\nval: /content/x/valid\n',
    ],
)
def test_paths_of_other_machines(tmp_path, text):
    """Also of a dataset one folder below, as an archive is unpacked."""
    root = tmp_path / 'proj-1'
    shapes.write_yolo(root, 4, 2)
    for split in ('train', 'val'):
        new = root / split.replace('val', 'valid')
        for kind in ('images', 'labels'):
            new.mkdir(exist_ok=True)
            (root / kind / split).rename(new / kind)
    names = json.dumps(list(shapes.CLASSES))
    (root / 'data.yaml').write_text(f'{text}names: {names}\n')
    assert sizes(read_folder(tmp_path)) == dict(train=4, val=2)
    assert sizes(read_folder(root)) == dict(train=4, val=2)


def test_a_val_set_that_was_not_exported(tmp_path):
    """It is chosen, if there is no image that it may mean."""
    shapes.write_yolo(tmp_path, 6, 0)
    found = read_folder(tmp_path)
    assert sizes(found) == dict(train=6)
    assert 'There is no val set: ' in ' '.join(found.notes)
    shapes.draw(0, tmp_path / 'images/other/1.jpg')
    with pytest.raises(DataError, match="names 'images/val'"):
        read_folder(tmp_path)


def test_two_datasets(tmp_path):
    for name in ('a', 'b'):
        shapes.write_yolo(tmp_path / name, 4, 2)
    with pytest.raises(DataError, match='holds two datasets'):
        read_folder(tmp_path)


def test_two_formats(tmp_path):
    shapes.write_yolo(tmp_path, 4, 2)
    shapes.write_voc(tmp_path, 4, 2)
    with pytest.raises(DataError, match='labels in two formats'):
        read_folder(tmp_path)
    assert read_folder(tmp_path, 'voc').format == 'Pascal VOC'


@pytest.mark.parametrize(
    ('content', 'tool'),
    [
        ([dict(id=1, data={}, annotations=[])], 'Label Studio'),
        ({'_via_img_metadata': {}}, 'the VGG Image Annotator'),
    ],
)
def test_own_formats_of_tools(tmp_path, content, tool):
    """Beside folders of images, which are no classes."""
    shapes.write_folders(tmp_path, 2)
    (tmp_path / 'project.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match=f'labels of {tool}'):
        read_folder(tmp_path)


def test_copied_files_of_labelme(tmp_path):
    """They still name the image that they were copied from."""
    shapes.write_labelme(tmp_path, 4)
    for i in (1, 2):
        content = json.loads((tmp_path / f'{i}.json').read_text())
        content.update(imagePath='0.jpg', imageData='x' * 1000)
        (tmp_path / f'{i}.json').write_text(json.dumps(content))
    found = read_folder(tmp_path)
    got = sorted((p.path.name, len(p.things)) for p in found.pictures())
    assert got == [(f'{i}.jpg', len(shapes.scene(i))) for i in range(4)]
    (tmp_path / '3.json').rename(tmp_path / '5.json')
    (tmp_path / '4.json').write_text((tmp_path / '5.json').read_text())
    with pytest.raises(DataError, match='name the same image'):
        read_folder(tmp_path)


def test_masks_of_one_bit(tmp_path):
    """They are read as OpenCV does, and may be mixed with others."""
    (tmp_path / 'masks').mkdir()
    for i in range(4):
        shapes.draw(i, tmp_path / f'images/{i}.jpg')
        mask = Image.new('L', (shapes.WIDTH, shapes.HEIGHT))
        mask.paste(255, (10, 10, 40, 40))
        mask = mask.convert('1') if i % 2 else mask
        mask.save(tmp_path / f'masks/{i}.png')
    found = read_folder(tmp_path)
    assert found.classes == ['background', 'foreground']
    assert found.values == {0: 0, 255: 1}


def test_a_second_mask_of_an_image(tmp_path):
    for i in range(3):
        shapes.draw(i, tmp_path / f'{i}.png')
        Image.new('L', (120, 96), 1).save(tmp_path / f'{i}_mask.png')
    Image.new('L', (120, 96), 1).save(tmp_path / '1_mask_1.png')
    with pytest.raises(DataError, match='may be'):
        read_folder(tmp_path)


def test_a_link_to_a_folder_that_it_lies_in(tmp_path):
    shapes.write_yolo(tmp_path, 4, 2)
    (tmp_path / 'images/images').symlink_to(tmp_path / 'images')
    assert sizes(read_folder(tmp_path)) == dict(train=4, val=2)
    (tmp_path / 'images/train/again').symlink_to(tmp_path / 'images')
    assert sizes(read_folder(tmp_path)) == dict(train=4, val=2)
