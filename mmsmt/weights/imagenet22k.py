"""Classes of ImageNet-22K (fall 2011), as in the released weights."""

from pathlib import Path

# Of the 21,843 synsets, 9205 and 15027 have no images; in the release the last
# two take their labels.
_MOVED = {9205: 21841, 15027: 21842}


def imagenet_22k_synsets() -> tuple[str, ...]:
    """Return the 21,841 synsets of ImageNet-22K in the order of their labels.

    The released weights, as Swin's, follow the sorted list of the 21,843
    synsets of ImageNet-21K. Two of these have no images; the last two take
    their labels. The sorted folders of the data are in another order.
    """
    synsets = _read_words('imagenet22k_synsets.txt')
    for label, moved in _MOVED.items():
        synsets[label] = synsets[moved]
    return tuple(synsets[: -len(_MOVED)])


def imagenet_22k_to_1k() -> list[int]:
    """Return the label of each ImageNet-1K class among the 21,841 of 22K.

    The teddy bear (850), which the 22K data lacks, has that of a chest
    (n03013580), as in the release.
    """
    return [int(label) for label in _read_words('imagenet22k_to_1k.txt')]


def _read_words(name: str) -> list[str]:
    return Path(__file__).with_name(name).read_text().split()
