"""Contents of a dataset as a model sees it, and a table of them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

SIZES = ('small', 'medium', 'large')


@dataclass
class Summary:
    """Contents of a dataset as a model sees it.

    Args:
        images (int): Number of images that are used.
        empty (int): Those without an object.
        objects (Counter): Number of objects by class; of images for
            segmentation and classification.
        sizes (Counter): Number of objects by COCO's size: small (below 32 x
            32 pixels), medium, large (from 96 x 96 on).
        dropped (Counter): Number of objects or images by reason.
        files (dict[str, tuple[int, int]]): Annotated height and width of the
            images, in pixels, by file.
        unit (str): What ``objects`` counts.
        classes (tuple[str, ...]): Names of the classes, in the order of their
            labels, as the dataset gives them to the model.
        folders (set[str]): Folders of the images and masks.
        paths (list[str]): Files of the images.
    """

    images: int = 0
    empty: int = 0
    objects: Counter = field(default_factory=Counter)
    sizes: Counter = field(default_factory=Counter)
    dropped: Counter = field(default_factory=Counter)
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    unit: str = 'objects'
    classes: tuple[str, ...] = ()
    folders: set[str] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)

    def __add__(self, other: 'Summary') -> 'Summary':
        """Return the contents of both, without sizes of files and folders."""
        return Summary(
            self.images + other.images,
            self.empty + other.empty,
            self.objects + other.objects,
            self.sizes + other.sizes,
            self.dropped + other.dropped,
            unit=self.unit,
            classes=self.classes,
            paths=self.paths + other.paths,
        )


def format_summaries(
    summaries: Mapping[str, Summary], classes: bool = True
) -> Iterator[str]:
    """Yield the lines of a table of the datasets' contents.

    Args:
        summaries (Mapping[str, Summary]): Contents by split.
        classes (bool): Add a row for each class.
    """
    if not summaries:
        return
    boxes = any(data.sizes for data in summaries.values())
    header = f'{"":6s} {"images":>9s} {"empty":>9s}'
    if boxes:
        titles = ('objects', *SIZES)
        header += ''.join(f' {title:>9s}' for title in titles)
    yield header
    for split, data in summaries.items():
        line = f'{split:6s} {data.images:9d} {data.empty:9d}'
        if boxes:
            line += f' {sum(data.objects.values()):9d}'
            line += ''.join(f' {data.sizes[size]:9d}' for size in SIZES)
        yield line
        for reason, count in data.dropped.items():
            yield f'       dropped: {count} {reason}'
    if not classes:
        return
    names = dict.fromkeys(
        name
        for data in summaries.values()
        for name in (*data.classes, *data.objects)
    )
    if not names:
        return
    units = dict.fromkeys(data.unit for data in summaries.values())
    title = f'{" or ".join(units)} of'
    width = max(map(len, (title, *map(str, names))))
    yield f'{title:{width}s}' + ''.join(f' {s:>9s}' for s in summaries)
    for name in names:
        counts = (data.objects[name] for data in summaries.values())
        yield f'{name:{width}s}' + ''.join(f' {n:9d}' for n in counts)
