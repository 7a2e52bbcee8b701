"""Split images into those to train on and those to validate with."""

import hashlib
from collections import Counter

from mmsmt.data.files import DataError

from .records import Collection, Picture

SHARE = 0.2


def split_pictures(
    collection: Collection, share: float = SHARE, seed: int = 0
) -> None:
    """Give a collection a training and a validation set.

    Images are taken in an order that depends on their names and the seed
    only. Each class that two images show is in both sets.

    Args:
        collection (Collection): Changed in place, if it lacks either set.
        share (float): Share of the images to validate with.
        seed (int): Another seed gives another order.

    Raises:
        DataError: There are too few images, or some are of no split.
    """
    splits = collection.splits
    if splits.get('train') and splits.get('val'):
        alone = splits.pop('', [])
        if alone:
            collection.notes.append(
                f'{len(alone)} images are of no split and left out, such as '
                f"'{alone[0].path}'."
            )
        return
    if splits.get('train') and splits.get(''):
        raise DataError(
            f'{len(splits["train"])} images are to train on, and '
            f"{len(splits[''])} of no split, such as '{splits[''][0].path}'. "
            'Name their folder or file val, or move them away.'
        )
    if splits.get('val') and splits.get('') and not splits.get('train'):
        splits['train'] = splits.pop('')
        collection.notes.append(
            f'The {len(splits["train"])} images of no split are trained on.'
        )
        return
    if splits.get('train') and splits.get('test'):
        splits['val'] = splits['test']
        collection.notes.append('There is no val set: test is used for both.')
        return
    if splits.get('test') and not any(
        splits.get(name) for name in ('', 'train', 'val')
    ):
        raise DataError(
            'There is a test set only: there are no images to train with.'
        )
    pool = [p for name in ('', 'train', 'val') for p in splits.pop(name, [])]
    if len(pool) < 2:
        raise DataError(
            f'{len(pool)} images are too few to train and to validate.'
        )
    pool.sort(key=lambda p: _rank(p, seed))
    chosen = _choose(pool, max(1, round(share * len(pool))))
    splits['train'] = [p for p in pool if id(p) not in chosen]
    splits['val'] = [p for p in pool if id(p) in chosen]
    for pictures in splits.values():
        pictures.sort(key=lambda p: str(p.path))
    collection.notes.append(
        f'There is no val set: {len(chosen)} of {len(pool)} images were '
        f'chosen for it by their names (seed {seed}).'
    )


def _rank(picture: Picture, seed: int) -> str:
    path = picture.path
    text = f'{seed} {path.parent.name}/{path.name}'
    return hashlib.sha256(text.encode()).hexdigest()


def _choose(pool: list[Picture], count: int) -> set[int]:
    left = Counter(label for p in pool for label in p.labels)
    rare_first = sorted(left, key=lambda label: (left[label], label))
    chosen: set[int] = set()
    covered: set[str] = set()

    def take(picture: Picture) -> bool:
        """Move an image, unless training would lose a class."""
        if id(picture) in chosen or any(left[x] < 2 for x in picture.labels):
            return False
        left.subtract(picture.labels)
        chosen.add(id(picture))
        covered.update(picture.labels)
        return True

    for label in rare_first:
        if label not in covered:
            any(take(p) for p in pool if label in p.labels)
    for picture in pool:
        if len(chosen) >= count:
            break
        take(picture)
    if not chosen:  # each has a class of its own: lose the fewest
        best = min(pool, key=lambda p: sum(left[x] < 2 for x in p.labels))
        chosen.add(id(best))
    return chosen
