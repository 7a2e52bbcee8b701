"""Find out the format of a folder, and read it."""

import re
from collections import Counter
from pathlib import Path

from mmsmt.data.files import DataError

from .coco import KEYS, read_coco, read_json
from .folders import read_folders
from .labelme import read_labelme
from .masks import pair_masks, read_masks
from .records import Collection, tidy
from .sources import describe_unread, find_files
from .voc import read_voc
from .yolo import find_description, find_labels, read_yolo

FORMATS = ('coco', 'yolo', 'voc', 'labelme', 'masks', 'folders')
HOW = (
    'A folder holds COCO json files, YOLO text files with data.yaml or '
    "classes.txt, Pascal VOC's XML files, LabelMe's json files, masks of the "
    'names of the images in a folder such as masks/, or a folder of images '
    'for each class.'
)


def read_folder(
    root: Path, kind: str | None = None, names: list[str] | None = None
) -> Collection:
    """Read the labelled images of a folder.

    Args:
        root (Path): The folder, which is not changed.
        kind (str, optional): One of :data:`FORMATS`; found out by default.
        names (list[str], optional): Names of the classes, in their order.

    Raises:
        DataError: The folder is of no known format, or has faults.
    """
    root = root.absolute()
    if not root.is_dir():
        what = 'a file, not a folder' if root.exists() else 'no folder'
        raise DataError(f"'{root}' is {what}.")
    if names and len(set(names)) < len(names):
        raise DataError(f'--classes names one twice: {" ".join(names)}')
    try:
        collection = _read(root, kind, names or [])
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as e:
        # What a format requires is missing in a file.
        raise DataError(
            f"'{root}' cannot be read{f' as {kind}' if kind else ''}: a file "
            f'lacks what its format requires ({type(e).__name__}: {e}). '
            '--format chooses another format.'
        ) from e
    things = [
        thing for picture in collection.pictures() for thing in picture.things
    ]
    if not collection.task:
        whole = all(thing.mask for thing in things if not thing.crowd)
        masks = sum(bool(thing.mask) for thing in things)
        collection.task = 'instance' if whole and masks else 'detection'
        if masks and not whole:
            collection.notes.append(
                f'{masks} of {len(things)} objects have a mask: only the '
                'boxes are trained (--task instance takes the others for '
                'rectangles).'
            )
    if not collection.classes:
        raise DataError(f"No image below '{root}' has a label.")
    twice = [x for x, n in Counter(collection.classes).items() if n > 1]
    if twice:
        raise DataError(f'Two classes have the name {twice[0]!r}.')
    unread = describe_unread([root])
    if unread:
        collection.notes.append(f'{unread}.')
    if names and collection.task != 'semantic':
        _choose_classes(collection, names)
    tidy(collection)
    val = collection.splits.get('val', [])
    if (
        collection.task in ('instance', 'detection')
        and val
        and not any(picture.things for picture in val)
    ):
        raise DataError(
            f'None of the {len(val)} images to validate with has a label, '
            f"such as '{val[0].path}'."
        )
    test = collection.splits.get('test', [])
    if collection.task in ('instance', 'detection') and not any(
        picture.things for picture in test
    ):
        collection.splits.pop('test', None)
        if test:
            collection.notes.append(
                f'The {len(test)} test images have no label and are left out.'
            )
    return collection


def _read(root: Path, kind: str | None, names: list[str]) -> Collection:
    kinds = [kind] if kind else FORMATS
    strange: list[str] = []
    if 'coco' in kinds or 'labelme' in kinds:
        coco, labelme, strange, damaged = _sort_json(root)
        if damaged and (coco or labelme):
            raise DataError(
                f'{damaged[0]} Repair it, or move it out of the folder.'
            )
        strange += damaged
        if coco and 'coco' in kinds:
            if not kind:
                _refuse_others(root, 'coco')
            return read_coco(root, coco)
        if labelme and 'labelme' in kinds:
            return read_labelme(root, labelme)
    if 'yolo' in kinds:
        description = find_description(root)
        if description:
            if not kind:
                _refuse_others(root, 'yolo')
            return read_yolo(root, description)
    if 'voc' in kinds:
        files = _find_voc(root)
        if files:
            return read_voc(root, files)
    if 'masks' in kinds:
        pairs, alone = pair_masks(root)
        if pairs:
            return read_masks(root, pairs, names, alone)
    if strange:
        raise DataError(strange[0])
    if find_labels(root) and not kind:
        raise DataError(
            f"Below '{root}' text files have the names of images, as labels "
            'of YOLO have. Write the names of the classes into classes.txt, '
            'one a line, or copy data.yaml there.'
        )
    if 'folders' in kinds:
        try:
            collection = read_folders(root)
        except DataError as error:
            unread = find_files(root, ('.json', '.csv', '.xml'))
            if not unread:
                raise
            raise DataError(
                f"{error}\n'{unread[0]}' is of no format that is read here. "
                f'{HOW}'
            ) from None
        if collection:
            return collection
    what = f'labels in the format {kind!r}' if kind else 'labels'
    raise DataError(f"Below '{root}' no {what} were found.\n{HOW}")


def _sort_json(
    root: Path,
) -> tuple[dict[Path, dict], dict[Path, dict], list[str], list[str]]:
    """Read the JSON files of a folder; tell COCO's from LabelMe's.

    Those of COCO's panoptic form, whose annotations are of whole images, are
    left out.

    Returns:
        Contents of COCO's and LabelMe's files, and messages: of files whose
        labels are not read, and of those that are not whole.
    """
    coco, labelme, strange, damaged = {}, {}, [], []
    for path in find_files(root, '.json'):
        try:
            content = read_json(path)
        except DataError as error:
            damaged.append(str(error))
            continue
        tool = _name_tool(content)
        if tool:
            strange.append(
                f"'{path}' looks like labels of {tool}, which are not read. "
                'Export them as COCO or YOLO.'
            )
        if not isinstance(content, dict):
            continue
        notes = content.get('annotations')
        listed = isinstance(notes, list)
        first = notes[0] if listed and notes else {}
        panoptic = isinstance(first, dict) and 'segments_info' in first
        if set(content) >= KEYS and listed and not panoptic:
            coco[path] = content
        elif 'shapes' in content:
            content.pop('imageData', None)  # the image itself, as text
            labelme[path] = content
        elif listed and 'images' in content and not panoptic:
            strange.append(
                f"'{path}' has images and annotations as COCO's files have, "
                'and no categories.'
            )
    return coco, labelme, strange, damaged


def _name_tool(content: object) -> str:
    """Return the tool whose own format a JSON file has, '' if unknown."""
    if isinstance(content, dict) and '_via_img_metadata' in content:
        return 'the VGG Image Annotator'
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and {'data', 'annotations'} <= set(first):
        return 'Label Studio'
    return ''


def _refuse_others(root: Path, read: str) -> None:
    """Refuse labels of a second format that would not be read."""
    others = {'voc': _find_voc(root)}
    if read == 'coco' and find_labels(root):
        others['yolo'] = [x for x in [find_description(root)] if x]
    for kind, files in others.items():
        if files:
            raise DataError(
                f"'{root}' has labels in two formats: '{files[0]}' is of "
                f'{kind}, others are of {read}. Choose one by --format.'
            )


def _find_voc(root: Path) -> list[Path]:
    return [p for p in find_files(root, '.xml') if _is_voc(p)]


def _is_voc(path: Path) -> bool:
    return bool(re.search(rb'<annotation[\s>]', path.read_bytes()[:1000]))


def _choose_classes(collection: Collection, names: list[str]) -> None:
    """Keep the named classes, in their order."""
    absent = [name for name in names if name not in collection.classes]
    if absent:
        raise DataError(
            f'There is no class {", ".join(absent)}; the classes are '
            f'{", ".join(collection.classes)}.'
        )
    left_out = 0
    for picture in collection.pictures():
        kept = [thing for thing in picture.things if thing.label in names]
        left_out += len(picture.things) - len(kept)
        picture.things = kept
    if collection.task == 'classification':
        for split, pictures in collection.splits.items():
            chosen = [p for p in pictures if p.label in names]
            left_out += len(pictures) - len(chosen)
            collection.splits[split] = chosen
    if left_out:
        collection.notes.append(f'{left_out} labels of others are left out.')
    collection.classes = list(names)
