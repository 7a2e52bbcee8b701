"""Read folders of classes."""

import re
from pathlib import Path

from mmsmt.data.files import DataError

from .records import Collection, Picture
from .sources import find_images, is_hidden, split_of_name

NO_CLASSES = re.compile(
    '(images?|imgs?|photos?|pictures?|jpegimages|masks?|labels?|annotations?'
    '|segmentations?|segmentationclass|gt|ground_?truth)[0-9]*'
)
"""Names of folders that are no class, if all are such."""


def read_folders(root: Path) -> Collection | None:
    """Read images in a folder for each class, below splits or not.

    Args:
        root (Path): The folder.

    Returns:
        Collection: The images; None if the folder is none of classes.

    Raises:
        DataError: There is one class only, images lie deeper, or splits have
            folders of classes that training has not.
    """
    root = _descend(root)
    places = {p: split_of_name(p.name) for p in _subfolders(root)}
    holding = {p: split for p, split in places.items() if find_images(p)}
    # A test set may have no folders of classes: it has no labels.
    flat = [p for p in holding if not _subfolders(_descend(p))]
    labelled = {p: split for p, split in holding.items() if p not in flat}
    unlabelled = all(holding[p] == 'test' for p in flat)
    if labelled and all(labelled.values()) and unlabelled:
        holding = labelled
    else:  # without splits; a class may have the name of one
        holding, flat = {root: ''}, []
    result = Collection('folders of classes', 'classification', [], {})
    empty, deep = [], []
    for place in flat:
        result.notes.append(
            f'The {len(find_images(place))} images of {place.name} have no '
            'label and are left out.'
        )
    for place, split in holding.items():
        loose = [p for p in find_images(place) if p.parent == place]
        if loose:
            result.notes.append(
                f'{len(loose)} images are in the folder of no class and left '
                f"out, such as '{loose[0]}'."
            )
        for folder in _subfolders(_descend(place) if split else place):
            images = find_images(folder)
            if not images:
                empty.append(str(folder.relative_to(root)))
            elif not any(path.parent == folder for path in images):
                deep.append(str(images[0].relative_to(root)))
            pictures = [Picture(path, label=folder.name) for path in images]
            result.splits.setdefault(split, []).extend(pictures)
    if not any(result.splits.values()):
        return None
    labels = {p.label for p in result.pictures() if p.label}
    if len(labels) < 2 or deep:
        what = f'such as {deep[0]}' if deep else f'in {", ".join(labels)} only'
        raise DataError(
            f"Below '{root}' there are images {what}, and no labels that "
            'could be read. Folders of classes are two or more, each with its '
            'images in it.'
        )
    if all(map(_is_no_class, map(str, labels))):
        raise DataError(
            f"The folders below '{root}' are no names of classes "
            f'({", ".join(sorted(map(str, labels)))}), and no labels could be '
            'read.'
        )
    if empty:
        result.notes.append(f'Folders without an image: {", ".join(empty)}.')
    trained = {p.label for p in result.splits.get('train', [])} or labels
    if labels - trained:
        raise DataError(
            f'No training image has the class '
            f'{", ".join(sorted(map(str, labels - trained)))}.'
        )
    result.classes = sorted(labels)
    return result


def _is_no_class(name: str) -> bool:
    """Return whether a folder is of a split, of images or of masks."""
    return bool(split_of_name(name) or NO_CLASSES.fullmatch(name.lower()))


def _descend(folder: Path) -> Path:
    """Return the first folder below that holds more than one folder."""
    inner = _subfolders(folder)
    while len(inner) == 1 and _subfolders(inner[0]):
        folder = inner[0]
        inner = _subfolders(folder)
    return folder


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.is_dir() and not is_hidden(p.name)
    )
