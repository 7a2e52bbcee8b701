"""Read YOLO's text files, with a data.yaml or a list of names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mmsmt.data.files import DataError

from .records import Collection, Picture, Thing
from .sources import (
    SPLITS,
    SUFFIXES,
    ImageFinder,
    find_files,
    find_images,
    measure,
    read_lines,
    split_of,
    split_of_name,
)

NAMES = ('classes.txt', 'obj.names', 'labels.txt')
DESCRIPTIONS = ('data', 'dataset')


def find_description(root: Path) -> Path | None:
    """Find what names a folder's classes: ``data.yaml`` or a list of names.

    Raises:
        DataError: ``data.yaml`` is not whole YAML.
    """
    files = [
        path
        for path in find_files(root, ('.yaml', '.yml'))
        if len(path.relative_to(root).parts) <= 2
    ]
    # Settings of a training may have names too.
    files.sort(key=lambda p: (p.stem not in DESCRIPTIONS, len(p.parts), p))
    found: list[Path] = []
    for path in files:
        try:
            content = _read_yaml(path)
        except DataError:
            if path.stem in DESCRIPTIONS:
                raise
            continue
        described = {'train', 'val', 'nc', 'path'} & set(content)
        if 'names' in content and (described or path.stem in DESCRIPTIONS):
            found.append(path)
    if found:
        others = [p for p in found[1:] if p.parent != found[0].parent]
        if others and found[0].parent != root:
            raise DataError(
                f"'{root}' holds two datasets, of '{found[0]}' and of "
                f"'{others[0]}'. Convert one at a time, or join them."
            )
        return found[0]
    if not find_labels(root):
        return None
    lists = [p for p in find_files(root, NAMES) if p.name in NAMES]
    return min(lists, key=lambda p: NAMES.index(p.name), default=None)


def find_labels(root: Path) -> list[Path]:
    """List the text files that have the name of an image."""
    stems = {path.stem for path in find_images(root)}
    return [p for p in find_files(root, '.txt') if p.stem in stems]


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text('utf-8-sig')
        content = yaml.safe_load(text)
        if isinstance(content, dict) and 'names' in content:
            # Otherwise no and 007 would be False and 7.
            texts = yaml.load(text, Loader=yaml.BaseLoader)
            content['names'] = texts['names']
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' is not whole YAML ({error}).") from None
    return content if isinstance(content, dict) else {}


def _read_names(path: Path, content: dict[str, Any]) -> list[str]:
    """Read the names of ``data.yaml``: a list, or names by number."""
    names = content['names']
    try:
        if isinstance(names, dict):
            by_number = {int(key): name for key, name in names.items()}
            names = [by_number.get(i, i) for i in range(1 + max(by_number))]
        if not isinstance(names, list) or not names:
            raise ValueError
    except ValueError:
        raise DataError(
            f"'{path}': names is {names!r}, neither a list of names nor names "
            'by number.'
        ) from None
    number = content.get('nc', len(names))
    if number != len(names):
        raise DataError(
            f"'{path}': nc is {number}, and there are {len(names)} names."
        )
    return list(map(str, names))


def read_yolo(root: Path, description: Path) -> Collection:
    """Read a dataset in YOLO's format.

    Args:
        root (Path): The folder.
        description (Path): ``data.yaml``, or a text file of class names.

    Raises:
        DataError: A line is wrong, or a folder is missing; names file and
            line.
    """
    content: dict[str, Any] = {}
    if description.suffix in ('.yaml', '.yml'):
        content = _read_yaml(description)
        names = _read_names(description, content)
    else:
        names = read_lines(description)
    result = Collection('YOLO', '', names, {})
    finder = ImageFinder(root)
    given = {s: content[s] for s in SPLITS if content.get(s)}
    given = given or _find_lists(description)
    keypoints = 'kpt_shape' in content
    bare: dict[str, list[Path]] = {}
    missing: list[tuple[str, DataError]] = []
    for name, places in (given or {'': str(root)}).items():
        try:
            images = list(
                _iter_images(root, description, content, places, finder)
            )
        except DataError as error:
            if SPLITS[name] == 'train' or len(given) < 2:
                raise
            missing.append((SPLITS[name], error))
            continue
        for image in images:
            picture = Picture(image, *measure(image))
            label = _label_of(image)
            split = SPLITS[name] if given else split_of(image, root)
            result.splits.setdefault(split, []).append(picture)
            if label.is_file():
                picture.things = list(
                    _read_label(label, picture, names, keypoints)
                )
            else:
                bare.setdefault(split, []).append(image)
    used = {picture.path for picture in result.pictures()}
    for split, reason in missing:
        # Tools name folders that they do not write, where images are few.
        if split == 'val' and any(
            path.absolute() not in used for path in find_images(root)
        ):
            raise reason
        result.notes.append(f'There is no {split} set: {reason}')
    if not any(picture.things for picture in result.pictures()):
        raise DataError(
            f"No image of '{description}' has a label. Labels are text files "
            'of the same name, beside the images or with labels/ instead of '
            'images/ in their path.'
        )
    for split, images in bare.items():
        whole = len(images) == len(result.splits[split])
        text = f"have no text file, such as '{_label_of(images[0])}'"
        if whole and split != 'test':
            raise DataError(
                f'All {len(images)} images of {split or "the folder"} {text}.'
            )
        if split != 'test':
            result.notes.append(
                f'{len(images)} images of {split or "the folder"} {text}: '
                'they are taken for background.'
            )
    return result


def _find_lists(description: Path) -> dict[str, str]:
    """Find Darknet's lists of images, such as ``train.txt``, by name."""
    lists = {}
    for path in find_files(description.parent, '.txt'):
        name = path.stem.lower()
        if name in SPLITS and path != description:
            lines = read_lines(path)
            if lines and all(x.lower().endswith(SUFFIXES) for x in lines):
                lists[name] = str(path)
    return lists


def _iter_images(
    root: Path,
    description: Path,
    content: dict,
    places: Any,
    finder: ImageFinder,
) -> Iterator[Path]:
    places = places if isinstance(places, list) else [places]
    base = description.parent / (content.get('path') or '')
    for place in map(str, places):
        tried = [base / place, description.parent / place]
        # The path may be of another machine: its last folders are here.
        parts = Path(place.replace('\\', '/').lstrip('./')).parts
        starts = [
            i
            for i in range(len(parts))
            if i + 1 < len(parts) or i == 0 or split_of_name(parts[i])
        ]
        for folder in dict.fromkeys((description.parent, root)):
            tried += [folder.joinpath(*parts[i:]) for i in starts]
        path = next((p for p in tried if p.exists()), None)
        if path is None:
            raise DataError(
                f"'{description}' names '{place}', which is neither "
                f"'{tried[0]}' nor below '{root}'."
            )
        if path.is_dir():
            yield from (p.absolute() for p in find_images(path))
            continue
        for line in read_lines(path):
            own = next(
                (p for p in (path.parent / line, base / line) if p.exists()),
                None,
            )
            image = own or finder.find(line, path)
            if image is None:
                raise DataError(f"'{path}' names the image '{line}', missing.")
            yield image.absolute()


def _label_of(image: Path) -> Path:
    """Return the text file of an image, which may not exist."""
    parts = list(image.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == 'images':
            parts[i] = 'labels'
            break
    other = Path(*parts).with_suffix('.txt')
    return other if other.is_file() else image.with_suffix('.txt')


def _read_label(
    path: Path, picture: Picture, names: list[str], keypoints: bool
) -> Iterator[Thing]:
    width, height = picture.width, picture.height
    text = path.read_text('utf-8-sig', errors='replace')
    for number, line in enumerate(text.split('\n'), 1):
        words = line.split()
        if not words:
            continue
        where = f"'{path}', line {number}"
        try:
            index = int(float(words[0]))
            values = [float(word) for word in words[1:]]
        except ValueError:
            raise DataError(f'{where}: {line!r} are not numbers.') from None
        if not 0 <= index < len(names):
            raise DataError(
                f'{where}: class {index} is none of the {len(names)} names '
                f'(0 to {len(names) - 1}).'
            )
        if keypoints:
            values = values[:4]
        if any(not -0.01 <= value <= 1.01 for value in values):
            raise DataError(
                f'{where}: YOLO gives fractions of the image, from 0 to 1; '
                f'{max(values, key=abs):g} is none.'
            )
        if len(values) == 4:
            x, y, w, h = values
            box = (x - w / 2) * width, (y - h / 2) * height
            yield Thing(names[index], (*box, w * width, h * height))
        elif len(values) >= 6 and len(values) % 2 == 0:
            points = [
                min(max(value, 0), 1) * (height if i % 2 else width)
                for i, value in enumerate(values)
            ]
            yield Thing.of_polygons(names[index], [points])
        else:
            raise DataError(
                f'{where}: {len(values)} numbers after the class; a box has '
                '4, a polygon an even number from 6 on.'
            )
