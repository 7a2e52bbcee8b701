"""Read folders of classes."""

from pathlib import Path

from mmsmt.data.files import DataError

from .records import SPLITS, Collection, Picture, find_images


def read_folders(root: Path) -> Collection | None:
    """Read images in a folder for each class, below splits or not.

    Args:
        root (Path): The folder.

    Returns:
        Collection: The images; None if the folder is none of classes.

    Raises:
        DataError: Splits have folders of classes that training has not.
    """
    places = {
        SPLITS[p.name.lower()]: p
        for p in _subfolders(root)
        if p.name.lower() in SPLITS
    }
    if not places:
        places = {'': root}
    result = Collection('folders of classes', 'classification', [], {})
    empty = []
    for split, place in places.items():
        for folder in _subfolders(place):
            images = find_images(folder)
            if not images:
                empty.append(str(folder.relative_to(root)))
            pictures = [Picture(path, label=folder.name) for path in images]
            result.splits.setdefault(split, []).extend(pictures)
    if not any(result.splits.values()):
        return None
    if empty:
        result.notes.append(f'Folders without an image: {", ".join(empty)}.')
    labels = {p.label for p in result.pictures() if p.label}
    trained = {p.label for p in result.splits.get('train', [])} or labels
    if labels - trained:
        raise DataError(
            f'No training image has the class '
            f'{", ".join(sorted(map(str, labels - trained)))}.'
        )
    result.classes = sorted(labels)
    return result


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.is_dir() and p.name[0] != '.'
    )
