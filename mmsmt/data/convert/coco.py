"""Read COCO's format in any layout."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mmsmt.data.files import DataError

from .records import Collection, Picture, Thing
from .sources import ImageFinder, gives_other_size, measure, split_of

KEYS = {'images', 'annotations', 'categories'}


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: It is not whole.
    """
    try:
        return json.loads(path.read_text('utf-8-sig'))
    except ValueError as error:
        raise DataError(f"'{path}' is not whole JSON ({error}).") from None


def read_coco(root: Path, contents: dict[Path, dict]) -> Collection:
    """Read the COCO files of a folder.

    Args:
        root (Path): The folder.
        contents (dict[Path, dict]): Its COCO files, one or more of each
            split.

    Raises:
        DataError: A file has faults that no conversion repairs.
    """
    finder = ImageFinder(root)
    counts: Counter = Counter()
    classes: list[str] = []
    for path, content in contents.items():
        _drop_unused_twins(content)
        names = {c['id']: str(c['name']) for c in content['categories']}
        if len(set(names.values())) < len(content['categories']):
            raise DataError(
                f"'{path}' has two categories of one id or one name."
            )
        classes += [x for x in names.values() if x not in classes]
        for note in content['annotations']:
            name = names.get(note.get('category_id'))
            if name is None:
                raise DataError(
                    f"'{path}': annotation {note.get('id')} names the category"
                    f' {note.get("category_id")!r}, which is absent.'
                )
            counts[name] += 1
    result = Collection('COCO', '', [x for x in classes if counts[x]], {})
    unused = [x for x in classes if not counts[x]]
    if unused:
        result.notes.append(
            f'Categories without an object are left out: {", ".join(unused)}.'
        )
    seen: dict[Path, Path] = {}
    for path, content in contents.items():
        result.notes += _settle_crowds(path, content)
        split = split_of(path, root, by_file=True)
        pictures = _read_file(path, content, finder, split)
        for picture in pictures:
            if picture.path in seen:
                raise DataError(
                    f"'{picture.path}' is in '{seen[picture.path]}' and in "
                    f"'{path}', each time as another image: its objects would "
                    'count twice, or be trained and validated with. Keep one '
                    'of them.'
                )
            seen[picture.path] = path
        result.splits.setdefault(split, []).extend(pictures)
    return result


def _settle_crowds(path: Path, content: dict) -> list[str]:
    """Decide which objects are crowds; remove those to ignore.

    CVAT writes ``iscrowd`` for each mask that was painted, and ``attributes``
    of each object.
    """
    notes: list[str] = []
    every = content['annotations']
    kept = [note for note in every if not note.get('ignore')]
    if len(kept) < len(every):
        content['annotations'] = kept
        notes.append(
            f"'{path}': {len(every) - len(kept)} objects to ignore are left "
            'out.'
        )
    crowds = [note for note in kept if note.get('iscrowd')]
    painted = [
        note
        for note in crowds
        if isinstance(note.get('segmentation'), dict)
        and isinstance(note.get('attributes'), dict)
    ]
    if crowds and len(painted) == len(crowds):
        for note in painted:
            note['iscrowd'] = 0
        notes.append(
            f"'{path}': {len(painted)} masks are marked as crowds, as CVAT "
            'marks those that were painted: they are read as single objects.'
        )
    elif crowds and len(crowds) == len(kept):
        raise DataError(
            f"'{path}': all {len(crowds)} objects are crowds (iscrowd=1), "
            'which are neither trained nor counted. Set iscrowd=0 for single '
            'objects.'
        )
    elif crowds:
        notes.append(
            f"'{path}': {len(crowds)} of {len(kept)} objects are crowds "
            '(iscrowd=1): they are neither trained nor counted.'
        )
    return notes


def _drop_unused_twins(content: dict) -> None:
    """Remove categories without objects whose name another one has."""
    used = {note.get('category_id') for note in content['annotations']}
    names = Counter(str(c['name']) for c in content['categories'])
    content['categories'] = [
        category
        for category in content['categories']
        if category['id'] in used or names[str(category['name'])] == 1
    ]


def _read_file(
    path: Path, content: dict, finder: ImageFinder, split: str
) -> list[Picture]:
    names = {c['id']: str(c['name']) for c in content['categories']}
    pictures: dict[Any, Picture] = {}
    for image in content['images']:
        name = str(image.get('file_name', ''))
        file = finder.find(name, path, split)
        if file is None:
            raise DataError(f"'{path}' names the image '{name}', not found.")
        size = measure(file)
        given = image.get('height'), image.get('width')
        if gives_other_size(given, size):
            raise DataError(
                f"'{path}' says that '{name}' has {given[0]} x {given[1]} "
                f'pixels; it is displayed with {size[0]} x {size[1]}. Export '
                'the annotations again, for images as they are displayed.'
            )
        if image.get('id') in pictures:
            raise DataError(
                f"'{path}' has two images of the id {image['id']!r}."
            )
        pictures[image.get('id')] = Picture(file, *size)
    for note in content['annotations']:
        where = f"'{path}', annotation {note.get('id')}"
        picture = pictures.get(note.get('image_id'))
        if picture is None:
            raise DataError(
                f'{where}: there is no image {note.get("image_id")!r}.'
            )
        label = names[note['category_id']]
        crowd, mask = bool(note.get('iscrowd')), note.get('segmentation')
        mask = _clean_mask(mask)
        box = note.get('bbox')
        flat = isinstance(box, list) and not any(box[2:])
        if isinstance(mask, list) and (box is None or flat):
            picture.things.append(Thing.of_polygons(label, mask, crowd))
            continue
        if not (
            isinstance(box, list)
            and len(box) == 4
            and all(isinstance(x, (int, float)) and x == x for x in box)
        ):
            raise DataError(f'{where}: its bbox is {box!r}, not 4 numbers.')
        if isinstance(mask, dict) and note.get('area'):
            mask['area'] = note['area']
        picture.things.append(Thing(label, tuple(box), mask, crowd))
    _refuse_other_units(path, list(pictures.values()))
    return list(pictures.values())


def _clean_mask(mask: Any) -> list | dict | None:
    """Return polygons of three points or more, or RLE, or None."""
    if isinstance(mask, dict) and mask.get('counts'):
        return dict(size=mask.get('size'), counts=mask['counts'])
    if not isinstance(mask, list):
        return None
    whole = []
    if mask and all(isinstance(x, (int, float)) for x in mask):
        mask = [mask]  # one polygon, not in a list of its own
    for polygon in mask:
        if isinstance(polygon, list) and all(
            isinstance(point, list) for point in polygon
        ):  # [[x, y], ...], as some tools write it
            polygon = [x for point in polygon for x in point]
        if (
            isinstance(polygon, list)
            and len(polygon) >= 6
            and len(polygon) % 2 == 0
        ):
            whole.append([float(x) for x in polygon])
    return whole or None


def _refuse_other_units(path: Path, pictures: list[Picture]) -> None:
    things = [(p, thing.box) for p in pictures for thing in p.things]
    fractions = sum(max(map(abs, box)) <= 1 for _, box in things)
    corners = sum(
        w > x and h > y and (x + w > p.width + 1 or y + h > p.height + 1)
        for p, (x, y, w, h) in things
    )
    for count, what in (
        (fractions, 'fractions of the image'),
        (corners, 'corners (x1, y1, x2, y2)'),
    ):
        if count > len(things) / 2:
            raise DataError(
                f"'{path}': {count} of {len(things)} boxes look like {what}; "
                'in COCO they are (x, y, width, height) in pixels.'
            )
