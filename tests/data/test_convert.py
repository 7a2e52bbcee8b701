"""Folders of labelled images, in every format, to what the hosts load."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from support import shapes

from mmsmt.data.check import check_config
from mmsmt.data.convert.reading import read_folder
from mmsmt.data.convert.splitting import split_pictures
from mmsmt.data.files import DataError

pytestmark = pytest.mark.one_stack

MAKERS = {
    'yolo': lambda root: shapes.write_yolo(root, 20, 6),
    'yolo polygons': lambda root: shapes.write_yolo(root, 20, 6, True),
    'voc': lambda root: shapes.write_voc(root, 20, 6),
    'coco': lambda root: shapes.write_coco(root, 26),
    'labelme': lambda root: shapes.write_labelme(root, 26),
    'masks': lambda root: shapes.write_masks(root, 20, 6),
    'colour masks': lambda root: shapes.write_masks(root, 20, 6, True),
    'folders': lambda root: shapes.write_folders(root, 6),
}
TASKS = {
    'yolo': 'detection',
    'voc': 'detection',
    'masks': 'semantic',
    'colour masks': 'semantic',
    'folders': 'classification',
}
OF_OBJECTS = ('yolo', 'yolo polygons', 'voc', 'coco', 'labelme')


@pytest.fixture(scope='module')
def pristine(tmp_path_factory) -> dict[str, Path]:
    """A folder of each format, with the same scenes."""
    result = {}
    for name, make in MAKERS.items():
        root = tmp_path_factory.mktemp(name.replace(' ', '_')) / 'own data'
        root.mkdir()
        result[name] = make(root)
    return result


def digest(root: Path) -> str:
    """A hash of all files of a folder."""
    state = hashlib.sha256()
    for path in sorted(root.rglob('*')):
        if path.is_file():
            state.update(str(path).encode() + path.read_bytes())
    return state.hexdigest()


@pytest.mark.parametrize('name', MAKERS)
def test_config_fits_the_data(pristine, tool_of, tmp_path, name):
    """Its own check finds nothing; the originals are as they were."""
    root, out = pristine[name], tmp_path / 'out'
    before = digest(root)
    status, output = tool_of('data', root, '--out', out)
    assert status == 0, output
    assert digest(root) == before
    assert f'mmsmt train {out}/config.py' in output
    text = (out / 'config.py').read_text()
    assert len(text.splitlines()) <= 40
    cfg = Config.fromfile(out / 'config.py')
    findings, summaries = check_config(cfg)
    assert not len(findings)
    assert {s: summaries[s].images for s in ('train', 'val')} == (
        dict(train=20, val=6)
        if 'yolo' in name or 'masks' in name or name == 'voc'
        else dict(train=19, val=5)
        if name == 'folders'
        else dict(train=21, val=5)
    )
    ground = ('ground',) if 'masks' in name else ()
    assert summaries['train'].classes == (*ground, *shapes.CLASSES)
    for picture in ('labels.png', 'counts.png'):
        with Image.open(out / picture) as image:
            assert min(image.size) > 100


@pytest.mark.parametrize('name', OF_OBJECTS)
def test_objects_are_the_same(pristine, name):
    """To a thousandth of a pixel, from whatever format."""
    collection = read_folder(pristine[name])
    assert collection.task == TASKS.get(name, 'instance')
    found = {int(p.path.stem): p for p in collection.pictures()}
    assert sorted(found) == list(range(26))
    for i, picture in found.items():
        expected = shapes.scene(i)
        assert (picture.height, picture.width) == (96, 120)
        assert [t.label for t in picture.things] == [s.label for s in expected]
        for thing, shape in zip(picture.things, expected):
            assert np.allclose(thing.box, shape.box, atol=1e-3)
            if thing.mask:
                assert np.allclose(
                    thing.mask, [np.ravel(shape.points)], atol=1e-3
                )


@pytest.mark.parametrize('name', ['masks', 'colour masks'])
def test_masks_are_the_same(pristine, tool_of, tmp_path, name):
    out = tmp_path / 'out'
    tool_of('data', pristine[name], '--out', out)
    for split, i in shapes.splits(20, 6):
        with Image.open(out / f'masks/{split}/{i}.png') as image:
            found = np.asarray(image)
        with Image.open(pristine['masks'] / f'masks/{split}/{i}.png') as image:
            assert np.array_equal(found, np.asarray(image))


def test_split_is_reproducible(pristine):
    """It depends on names and seed, and each class is in both sets."""
    names = []
    for seed in (0, 0, 1):
        collection = read_folder(pristine['labelme'])
        split_pictures(collection, 0.2, seed)
        for pictures in collection.splits.values():
            labels = {label for p in pictures for label in p.labels}
            assert labels == set(shapes.CLASSES)
        names.append([p.path.name for p in collection.splits['val']])
    assert names[0] == names[1] != names[2]


def test_rare_classes_are_in_both_sets(tmp_path):
    root = shapes.write_folders(tmp_path, 6)
    for path in sorted((root / 'tri').iterdir())[2:]:
        path.unlink()
    collection = read_folder(root)
    split_pictures(collection, 0.1)
    for pictures in collection.splits.values():
        assert 'tri' in {p.label for p in pictures}


def test_layout_of_roboflow(pristine, tmp_path):
    """A COCO file beside the images of each split; "valid" is val."""
    content = json.loads(
        (pristine['coco'] / 'annotations/instances_default.json').read_text()
    )
    for split, numbers in (('train', range(20)), ('valid', range(20, 26))):
        folder = tmp_path / split
        folder.mkdir()
        for i in numbers:
            shutil.copy(pristine['coco'] / f'images/{i}.jpg', folder)
        part = dict(
            content,
            images=[x for x in content['images'] if x['id'] in numbers],
            annotations=[
                x for x in content['annotations'] if x['image_id'] in numbers
            ],
            categories=[
                dict(id=0, name='shapes'),
                dict(id=99, name='tri'),  # without an object
                *content['categories'],
            ],
        )
        path = folder / '_annotations.coco.json'
        path.write_text(json.dumps(part))
    collection = read_folder(tmp_path)
    assert {s: len(p) for s, p in collection.splits.items()} == dict(
        train=20, val=6
    )
    assert collection.classes == list(shapes.CLASSES)
    assert 'without an object are left out: shapes' in collection.notes[0]


def test_a_few_classes(pristine, tool_of, tmp_path):
    out = tmp_path / 'out'
    status, output = tool_of(
        *('data', pristine['coco'], '--out', out),
        *('--classes', 'tri', 'circle', '--size', 'l', '--from-scratch'),
    )
    assert status == 0
    assert 'labels of others are left out' in output
    cfg = Config.fromfile(out / 'config.py')
    assert cfg.classes == ('tri', 'circle')
    assert cfg.model.backbone.init_cfg is None
    findings, _ = check_config(cfg)
    assert not findings.errors


def test_many_classes_are_read_from_a_file(pristine, tool_of, tmp_path):
    root = shutil.copytree(pristine['coco'], tmp_path / 'data')
    path = root / 'annotations/instances_default.json'
    content = json.loads(path.read_text())
    for i, note in enumerate(content['annotations']):
        note['category_id'] = i % 14
    content['categories'] = [dict(id=i, name=f'c{i:02d}') for i in range(14)]
    path.write_text(json.dumps(content))
    assert tool_of('data', root, '--out', tmp_path / 'out')[0] == 0
    findings, summaries = check_config(
        Config.fromfile(tmp_path / 'out/config.py')
    )
    assert not findings.errors
    assert len(summaries['train'].classes) == 14


def test_labelme_shapes(tmp_path):
    """Rectangles, circles, groups and masks; points have no area."""
    import base64
    import io

    Image.new('RGB', (50, 40)).save(tmp_path / 'a.png')
    stream = io.BytesIO()
    Image.fromarray(np.eye(6, dtype=np.uint8) * 255).save(stream, 'png')
    code = base64.b64encode(stream.getvalue()).decode()
    items = [
        ('rectangle', [[20, 30], [10, 5]], None, {}),
        ('circle', [[25, 20], [28, 24]], None, {}),
        ('polygon', [[0, 0], [4, 0], [4, 4]], 1, {}),
        ('polygon', [[8, 8], [9, 8], [9, 9]], 1, {}),
        ('mask', [[3, 4], [8, 9]], None, dict(mask=code)),
        ('point', [[1, 1]], None, {}),
        ('polygon', [[0, 0], [9, 0], [9, 9]], None, dict(label='__ignore__')),
    ]
    content = dict(
        imagePath='a.png',
        imageHeight=40,
        imageWidth=50,
        shapes=[
            dict(
                dict(label='x', shape_type=kind, points=p, group_id=g), **more
            )
            for kind, p, g, more in items
        ],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    collection = read_folder(tmp_path)
    boxes = [thing.box for thing in next(collection.pictures()).things]
    assert np.allclose(
        boxes,
        [[10, 5, 10, 25], [20, 15, 10, 10], [0, 0, 9, 9], [3, 4, 6, 6]],
    )
    assert 'left out: 1 point, 1 __ignore__' in collection.notes[0]
    assert collection.task == 'detection'  # a rectangle is no mask


def test_labelme_texts(tmp_path):
    """Sizes as texts are read; a shape without a label is an error."""
    shapes.write_labelme(tmp_path, 2)
    path = tmp_path / '1.json'
    content = json.loads(path.read_text())
    content.update(imageHeight=str(content['imageHeight']))
    content.update(imageWidth=str(content['imageWidth']))
    path.write_text(json.dumps(content))
    assert len(list(read_folder(tmp_path).pictures())) == 2
    content['shapes'][0]['label'] = None
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"1\.json' has a shape without a lab"):
        read_folder(tmp_path)


def test_layout_of_labelme_voc(pristine, tmp_path):
    """Names without the ignored label; pictures of masks are no masks."""
    for name in ('JPEGImages', 'SegmentationClass'):
        (tmp_path / name).mkdir()
    for kind, folder in (
        ('images', 'JPEGImages'),
        ('masks', 'SegmentationClass'),
    ):
        for path in (pristine['masks'] / kind / 'train').iterdir():
            shutil.copy(path, tmp_path / folder)
            if kind == 'images':
                for other in (
                    'SegmentationClassVisualization',
                    'masks_object',
                ):
                    (tmp_path / other).mkdir(exist_ok=True)
                    shutil.copy(path, tmp_path / other)
    names = ['__ignore__', '_background_', *shapes.CLASSES]
    (tmp_path / 'class_names.txt').write_text('\n'.join(names))
    collection = read_folder(tmp_path)
    assert collection.classes == names[1:]
    assert len(list(collection.pictures())) == 20
    assert not collection.notes


def edit(path: Path, change) -> None:
    path.write_text(change(path.read_text()))


# Format, change to the folder, words of the error.
FAULTS = {
    'class that has no name': (
        'yolo',
        lambda root: edit(
            root / 'labels/train/0.txt', lambda text: '7' + text[1:]
        ),
        ['labels/train/0.txt', 'line 1', 'class 7 is none of the 3 names'],
    ),
    'pixels in YOLO': (
        'yolo',
        lambda root: edit(
            root / 'labels/train/0.txt', lambda text: '0 30 40 20 20'
        ),
        ['labels/train/0.txt', 'fractions of the image', '40 is none'],
    ),
    'five numbers': (
        'yolo',
        lambda root: edit(
            root / 'labels/train/0.txt', lambda text: '0 .5 .5 .2 .2 .9'
        ),
        ['5 numbers after the class'],
    ),
    'number of classes': (
        'yolo',
        lambda root: edit(root / 'data.yaml', lambda text: text + 'nc: 4\n'),
        ['nc is 4, and there are 3 names'],
    ),
    'folder of data.yaml': (
        'yolo',
        lambda root: edit(
            root / 'data.yaml', lambda text: text.replace('images/val', 'x/y')
        ),
        ["names 'x/y', which is neither"],
    ),
    'damaged XML': (
        'voc',
        lambda root: edit(
            root / 'Annotations/0003.xml', lambda text: text[:-9]
        ),
        ['0003.xml', 'is not whole XML'],
    ),
    'missing image': (
        'voc',
        lambda root: (root / 'JPEGImages/0003.jpg').unlink(),
        ['0003.xml', "names the image '0003.jpg', not found"],
    ),
    'truncated JSON': (
        'coco',
        lambda root: edit(
            root / 'annotations/instances_default.json', lambda text: text[:99]
        ),
        ['instances_default.json', 'is not whole JSON'],
    ),
    'corners in COCO': (
        'coco',
        lambda root: edit(
            root / 'annotations/instances_default.json', to_corners
        ),
        ['boxes look like corners (x1, y1, x2, y2)'],
    ),
    'another size': (
        'labelme',
        lambda root: Image.new('RGB', (96, 120)).save(root / '3.jpg'),
        ['3.json', 'drawn on an image of 96 x 120', '120 x 96'],
    ),
    'no colours': (
        'colour masks',
        lambda root: (root / 'labelmap.txt').unlink(),
        ['are in colour, and no labelmap.txt says', '(220, 60, 60)'],
    ),
    'number without a name': (
        'masks',
        lambda root: edit(
            root / 'classes.txt', lambda text: text.replace('\ntri', '')
        ),
        ['numbers up to 3, and there are 3 classes'],
    ),
}


def to_corners(text: str) -> str:
    content = json.loads(text)
    for note in content['annotations']:
        x, y, w, h = note['bbox']
        note['bbox'] = [x + 60, y + 50, x + 60 + w, y + 50 + h]
    return json.dumps(content)


@pytest.mark.parametrize('name', FAULTS)
def test_faults(pristine, tmp_path, name):
    kind, change, words = FAULTS[name]
    root = shutil.copytree(pristine[kind], tmp_path / 'data')
    change(root)
    with pytest.raises(DataError) as error:
        read_folder(root)
    for word in words:
        assert word in str(error.value)


def test_nothing_is_overwritten(pristine, tool_of, tmp_path):
    (tmp_path / 'mine.txt').write_text('x')
    status, output = tool_of('data', pristine['coco'], '--out', tmp_path)
    assert status == 1
    assert 'exists: give a new folder' in output


def test_folder_without_labels(tool_of, tmp_path):
    shapes.draw(0, tmp_path / 'photos/a.jpg')
    shapes.draw(1, tmp_path / 'b.jpg')
    (tmp_path / 'photos/a.jpg').rename(tmp_path / 'a.jpg')
    (tmp_path / 'photos').rmdir()
    out = tmp_path.with_name(f'{tmp_path.name}_out')
    status, output = tool_of('data', tmp_path, '--out', out)
    assert status == 1
    assert 'no labels were found' in output and 'data.yaml' in output
    assert not out.exists()


def test_wrong_task(pristine, tool_of, tmp_path):
    status, output = tool_of(
        *('data', pristine['folders'], '--out', tmp_path / 'out'),
        *('--task', 'detection'),
    )
    assert status == 1
    assert 'is for classification, not for detection' in output
