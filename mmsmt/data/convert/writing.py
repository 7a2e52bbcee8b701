"""Write what the hosts load: annotations, masks, lists."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .masks import convert_mask
from .records import Collection, Picture, Thing


def write_annotations(
    collection: Collection, root: Path, out: Path, rectangles: bool = False
) -> None:
    """Write the annotations of all splits.

    Args:
        collection (Collection): The data.
        root (Path): Folder of the images.
        out (Path): Folder that is written to.
        rectangles (bool): Take boxes without a mask for rectangles.
    """
    folder = out / 'annotations'
    folder.mkdir(parents=True)
    for split, pictures in collection.splits.items():
        if collection.task == 'semantic':
            _write_masks(collection, split, pictures, out)
        elif collection.task == 'classification':
            numbers = {name: i for i, name in enumerate(collection.classes)}
            lines = [
                f'{relative(p.path, root)} {numbers[str(p.label)]}\n'
                for p in pictures
            ]
            (folder / f'{split}.txt').write_text(''.join(lines), 'utf-8')
        else:
            content = make_coco(collection, pictures, root, rectangles)
            (folder / f'{split}.json').write_text(json.dumps(content))


def relative(path: Path, root: Path) -> str:
    """Return a path for the hosts: relative to the root if it is inside."""
    path = path.absolute()
    inside = root.absolute() in path.parents
    return (path.relative_to(root.absolute()) if inside else path).as_posix()


def make_coco(
    collection: Collection,
    pictures: list[Picture],
    root: Path,
    rectangles: bool = False,
) -> dict[str, Any]:
    """Make the content of a COCO file.

    Args:
        collection (Collection): The data.
        pictures (list[Picture]): Images of a split.
        root (Path): Folder of the images.
        rectangles (bool): Take boxes without a mask for rectangles.
    """
    numbers = {name: i for i, name in enumerate(collection.classes, 1)}
    images: list[dict] = []
    notes: list[dict] = []
    for number, picture in enumerate(pictures, 1):
        images.append(
            dict(
                id=number,
                file_name=relative(picture.path, root),
                height=picture.height,
                width=picture.width,
            )
        )
        for thing in picture.things:
            note = dict(
                id=len(notes) + 1,
                image_id=number,
                category_id=numbers[thing.label],
                bbox=[round(float(x), 6) for x in thing.box],
                area=float(thing.area),
                iscrowd=int(thing.crowd),
            )
            # A crowd may lack a mask where all others have one.
            whole = rectangles or (
                thing.crowd and collection.task == 'instance'
            )
            mask = _mask_of(thing, picture, whole)
            if mask:
                note['segmentation'] = mask
            notes.append(note)
    categories = [dict(id=i, name=name) for name, i in numbers.items()]
    return dict(images=images, annotations=notes, categories=categories)


def _mask_of(
    thing: Thing, picture: Picture, rectangles: bool
) -> list | dict | None:
    mask = thing.mask
    if isinstance(mask, dict) and 'bits' in mask:
        from pycocotools.mask import encode

        (x, y), bits = mask['at'], mask['bits']
        whole = np.zeros((picture.height, picture.width), np.uint8, order='F')
        part = whole[y : y + bits.shape[0], x : x + bits.shape[1]]
        part[:] = bits[: part.shape[0], : part.shape[1]]
        code = encode(whole)
        return dict(size=code['size'], counts=code['counts'].decode())
    if isinstance(mask, dict):
        return dict(size=mask['size'], counts=mask['counts'])
    if mask is None and rectangles:
        x, y, w, h = thing.box
        return [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return mask


def _write_masks(
    collection: Collection, split: str, pictures: list[Picture], out: Path
) -> None:
    """Link images and write masks under names that mmseg pairs."""
    folders = out / 'images' / split, out / 'masks' / split
    for folder in folders:
        folder.mkdir(parents=True)
    for name, picture in _iter_names(pictures):
        assert picture.mask is not None
        link_file(picture.path, folders[0] / f'{name}.jpg')
        mask = convert_mask(picture.mask, collection.values)
        mask.save(folders[1] / f'{name}.png')


def _iter_names(pictures: list[Picture]) -> Iterator[tuple[str, Picture]]:
    """Yield a name for each image that no other one has."""
    taken: set[str] = set()
    for picture in pictures:
        name, i = picture.path.stem, 1
        while name in taken:
            i += 1
            name = f'{picture.path.stem}_{i}'
        taken.add(name)
        yield name, picture


def link_file(source: Path, target: Path) -> None:
    """Link to a file, or copy it where links are not allowed."""
    try:
        os.symlink(source.absolute(), target)
    except OSError:
        import shutil

        shutil.copyfile(source, target)
