"""Read YOLO's text files, with a data.yaml or a list of names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mmsmt.data.files import DataError

from .records import SPLITS, Collection, Picture, Thing, find_images, measure

NAMES = ('classes.txt', 'obj.names', 'labels.txt')


def find_yaml(root: Path) -> Path | None:
    """Find a folder's ``data.yaml``, by its content."""
    for path in sorted([*root.glob('*.y*ml'), *root.glob('*/*.y*ml')]):
        try:
            content = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        if isinstance(content, dict) and 'names' in content:
            return path
    return None


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
        content = yaml.safe_load(description.read_text())
        names = content['names']
        if isinstance(names, dict):
            names = [names.get(i) for i in range(1 + max(map(int, names)))]
        names = [
            str(i if name is None else name) for i, name in enumerate(names)
        ]
        number = content.get('nc', len(names))
        if number != len(names):
            raise DataError(
                f"'{description}': nc is {number}, and there are {len(names)} "
                'names.'
            )
    else:
        names = description.read_text().split('\n')
        names = [name.strip() for name in names if name.strip()]
    result = Collection('YOLO', '', names, {})
    given = {s: content[s] for s in SPLITS if content.get(s)}
    if not given:
        given = {'': str(root)}
    keypoints = 'kpt_shape' in content
    for name, places in given.items():
        split = SPLITS.get(name, '')
        for image in _iter_images(root, description, content, places):
            picture = Picture(image, *measure(image))
            label = _label_of(image)
            if label.is_file():
                picture.things = list(
                    _read_label(label, picture, names, keypoints)
                )
            result.splits.setdefault(split, []).append(picture)
    if not any(picture.things for picture in result.pictures()):
        raise DataError(
            f"No image of '{description}' has a label. Labels are text files "
            'of the same name, beside the images or with labels/ instead of '
            'images/ in their path.'
        )
    return result


def _iter_images(
    root: Path, description: Path, content: dict, places: Any
) -> Iterator[Path]:
    places = places if isinstance(places, list) else [places]
    base = description.parent / (content.get('path') or '')
    for place in places:
        tried = [
            base / place,
            description.parent / place,
            root / str(place).lstrip('./'),
            root / Path(place).name,
        ]
        path = next((p for p in tried if p.exists()), None)
        if path is None:
            raise DataError(
                f"'{description}' names '{place}', which is neither "
                f"'{tried[0]}' nor '{tried[2]}'."
            )
        if path.is_dir():
            yield from (p.absolute() for p in find_images(path))
            continue
        for line in path.read_text().split('\n'):
            if line.strip():
                own = path.parent / line.strip()
                yield own if own.exists() else base / line.strip()


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
    for number, line in enumerate(path.read_text().split('\n'), 1):
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
