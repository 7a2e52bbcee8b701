"""Small photographs of shapes, labelled in every format."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ('circle', 'square', 'tri')
HEIGHT, WIDTH = 96, 120
COLOURS = ((220, 60, 60), (60, 180, 60), (70, 90, 230))


class Shape(NamedTuple):
    """An object: its class and a polygon of whole pixels."""

    label: str
    points: list[tuple[int, int]]

    @property
    def box(self) -> tuple[int, int, int, int]:
        xs, ys = zip(*self.points)
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def scene(index: int) -> list[Shape]:
    """The shapes of an image; none in each fifth."""
    if index % 5 == 4:
        return []
    generator = np.random.default_rng(index)
    shapes = []
    for i in range(1 + index % 3):
        label = CLASSES[(index + i) % 3]
        x, y = 4 + 38 * i, int(generator.integers(4, 50))
        w, h = (int(v) for v in generator.integers(22, 34, 2))
        points = {
            'square': [(x, y), (x + w, y), (x + w, y + h), (x, y + h)],
            'tri': [(x, y + h), (x + w // 2, y), (x + w, y + h)],
            'circle': [
                (x + w // 2, y),
                (x + w, y + h // 2),
                (x + w // 2, y + h),
                (x, y + h // 2),
            ],
        }[label]
        shapes.append(Shape(label, points))
    return shapes


def draw(index: int, path: Path) -> None:
    """Draw a scene on noise."""
    generator = np.random.default_rng(1000 + index)
    noise = generator.integers(90, 160, (HEIGHT, WIDTH, 3), np.uint8)
    image = Image.fromarray(noise)
    pen = ImageDraw.Draw(image)
    for shape in scene(index):
        pen.polygon(shape.points, fill=COLOURS[CLASSES.index(shape.label)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)


def splits(train: int, val: int) -> list[tuple[str, int]]:
    """The split and the number of each image."""
    return [('train' if i < train else 'val', i) for i in range(train + val)]


def write_yolo(
    root: Path, train: int, val: int, polygons: bool = False
) -> Path:
    """Write images/ and labels/, and data.yaml."""
    for split, i in splits(train, val):
        draw(i, root / f'images/{split}/{i}.jpg')
        lines = []
        for shape in scene(i):
            number = CLASSES.index(shape.label)
            x, y, w, h = shape.box
            values = [x + w / 2, y + h / 2, w, h]
            if polygons:
                values = [v for point in shape.points for v in point]
            values = [
                v / (HEIGHT if j % 2 else WIDTH) for j, v in enumerate(values)
            ]
            lines.append(' '.join(map(repr, [number, *values])) + '\n')
        path = root / f'labels/{split}/{i}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        if lines or i % 2:  # a missing file says the same as an empty one
            path.write_text(''.join(lines))
    text = 'train: images/train\nval: images/val\nnames:\n'
    text += ''.join(f'  {i}: {name}\n' for i, name in enumerate(CLASSES))
    (root / 'data.yaml').write_text(text)
    return root


def write_voc(root: Path, train: int, val: int) -> Path:
    """Write JPEGImages/, Annotations/ and ImageSets/."""
    for folder in ('Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    names: dict[str, list[str]] = dict(train=[], val=[])
    for split, i in splits(train, val):
        draw(i, root / f'JPEGImages/{i:04d}.jpg')
        names[split].append(f'{i:04d}\n')
        objects = ''
        for shape in scene(i):
            x, y, w, h = shape.box  # VOC counts from 1, the last included
            corners = zip(
                ('xmin', 'ymin', 'xmax', 'ymax'),
                (x + 1, y + 1, x + w, y + h),
            )
            box = ''.join(f'<{k}>{v}</{k}>' for k, v in corners)
            objects += (
                f'<object><name>{shape.label}</name><difficult>0</difficult>'
                f'<bndbox>{box}</bndbox></object>'
            )
        (root / f'Annotations/{i:04d}.xml').write_text(
            f'<annotation><filename>{i:04d}.jpg</filename>{objects}'
            '</annotation>'
        )
    for split, lines in names.items():
        path = root / f'ImageSets/Main/{split}.txt'
        path.write_text(''.join(lines))
    return root


def write_coco(root: Path, count: int, masks: bool = True) -> Path:
    """Write one file for all images, as CVAT does, without a val set."""
    content: dict = dict(images=[], annotations=[], categories=[])
    for number, name in enumerate(CLASSES):
        content['categories'].append(dict(id=5 + 2 * number, name=name))
    for i in range(count):
        draw(i, root / f'images/{i}.jpg')
        size = dict(height=HEIGHT, width=WIDTH)
        content['images'].append(dict(id=i, file_name=f'{i}.jpg', **size))
        for shape in scene(i):
            note = dict(
                id=len(content['annotations']),
                image_id=i,
                category_id=5 + 2 * CLASSES.index(shape.label),
                bbox=list(shape.box),
            )
            if masks:
                points = [v for point in shape.points for v in point]
                note['segmentation'] = [points]
            content['annotations'].append(note)
    path = root / 'annotations/instances_default.json'
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return root


def write_labelme(root: Path, count: int) -> Path:
    """Write a file beside each image."""
    for i in range(count):
        draw(i, root / f'{i}.jpg')
        shapes = [
            dict(
                label=shape.label,
                points=[list(point) for point in shape.points],
                group_id=None,
                shape_type='polygon',
            )
            for shape in scene(i)
        ]
        content = dict(
            version='5.5.0',
            shapes=shapes,
            imagePath=f'{i}.jpg',
            imageData=None,
            imageHeight=HEIGHT,
            imageWidth=WIDTH,
        )
        (root / f'{i}.json').write_text(json.dumps(content))
    return root


def write_masks(
    root: Path, train: int, val: int, colour: bool = False
) -> Path:
    """Write images/ and masks/: 0 is the ground, then the classes."""
    for split, i in splits(train, val):
        draw(i, root / f'images/{split}/{i}.jpg')
        mask = Image.new('RGB' if colour else 'L', (WIDTH, HEIGHT))
        pen = ImageDraw.Draw(mask)
        for shape in scene(i):
            number = CLASSES.index(shape.label)
            fill = COLOURS[number] if colour else number + 1
            pen.polygon(shape.points, fill=fill)
        path = root / f'masks/{split}/{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)
    if colour:
        lines = ['# label:color_rgb:parts:actions', 'ground:0,0,0::']
        lines += [
            f'{name}:{",".join(map(str, rgb))}::'
            for name, rgb in zip(CLASSES, COLOURS)
        ]
        (root / 'labelmap.txt').write_text('\n'.join(lines))
    else:
        (root / 'classes.txt').write_text('\n'.join(('ground', *CLASSES)))
    return root


def write_folders(root: Path, each: int) -> Path:
    """Write a folder of images for each class, without a val set."""
    for i in range(5 * each):
        shapes = scene(i)
        if shapes:
            draw(i, root / shapes[0].label / f'{i}.jpg')
    return root
