"""Check masks of semantic segmentation as mmseg loads them."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import ConfigDict

from mmsmt.weights.reading import summarize

from .configured import build_lazily, find_loading, type_name
from .findings import Findings
from .images import (
    DEEP,
    SUFFIXES,
    count_suffixes,
    displayed_size,
    find_fault,
    open_image,
    report_faults,
)
from .parallel import map_files
from .summary import Summary


def check_segmentation(
    split: str, settings: ConfigDict, findings: Findings
) -> tuple[Summary, tuple[str, ...]] | None:
    """Check the images and masks of a dataset of mmseg.

    Args:
        split (str): ``train``, ``val`` or ``test``.
        settings (ConfigDict): Settings of the dataset, a ``BaseSegDataset``.
        findings (Findings): Extended in place.

    Returns:
        tuple[Summary, tuple[str, ...]]: Contents as a model sees them and the
        names of the classes; None if the dataset cannot be built.
    """
    name = type_name(settings)
    where = f'{split}_dataloader'
    try:
        dataset = build_lazily(settings)
    except ValueError as error:
        if 'not a subset' not in str(error):
            raise
        findings.error(
            where,
            f'its classes are not a part of those of {name}',
            "Write type='BaseSegDataset' for a dataset of your own.",
        )
        return None
    classes = tuple(dataset.metainfo.get('classes') or ())
    if not classes:
        findings.error(
            where,
            f'{name} has no classes',
            'Write metainfo=dict(classes=(...)) in every dataset.',
        )
        return None
    _check_reduce_zero_label(where, settings, dataset, findings)
    samples = dataset.load_data_list()
    folder = Path(dataset.data_prefix.get('img_path') or '')
    if dataset.ann_file and os.path.isfile(dataset.ann_file):
        if not _check_list(dataset, samples, findings):
            return None
    elif not samples:
        findings.error(folder, *_describe_no_image(folder, dataset.img_suffix))
        return None
    pairs = [(x['img_path'], x.get('seg_map_path')) for x in samples]
    if find_loading(settings) and not any(mask for _, mask in pairs):
        findings.error(
            where,
            f'data_prefix is {dict(settings.get("data_prefix") or {})}, '
            'without the key seg_map_path, and masks are loaded',
            "Write data_prefix=dict(img_path='FOLDER', "
            "seg_map_path='FOLDER').",
        )
        return None
    looks = map_files(look_at_pair, pairs, f'Masks of {split}')
    _warn_of_other_suffixes(where, dataset, folder, findings)
    summary = Summary(images=len(pairs), unit='images', classes=classes)
    summary.paths = [image for image, _ in pairs]
    summary.folders = {
        os.path.dirname(path) for pair in pairs for path in pair if path
    }
    values = _Values(dataset, classes)
    files = []
    for (image, mask), (fault, found) in zip(pairs, looks):
        of_mask = fault and fault[0].startswith('masks')
        files.append(str(mask if of_mask else image))
        if fault:
            continue
        present = values.add(str(mask), found)
        summary.objects.update(classes[i] for i in present)
        summary.empty += not present
    faults = [fault for fault, _ in looks]
    report_faults(where, files, faults, findings)
    if not any(faults):
        values.report(where, findings)
    absent = [x for x in classes if not summary.objects[x]]
    if absent and len(absent) < len(classes):
        findings.warn(
            where,
            f'{len(absent)} of {len(classes)} classes have no pixel: '
            f'{summarize(absent, 6)}',
        )
    for x in classes:
        summary.objects.setdefault(x, 0)
    return summary, classes


def look_at_pair(
    pair: tuple[str, str | None],
) -> tuple[tuple[str, str] | None, dict[int, int]]:
    """Look at an image and its mask.

    Args:
        pair (tuple[str, str | None]): Their files.

    Returns:
        tuple: The kind and the detail of a fault, or None; and the number of
        pixels of the mask by value.
    """
    image, mask = pair
    fault = find_fault(image)
    if fault and fault[0] != DEEP or mask is None:
        return fault, {}
    fault = find_fault(mask, 'masks')
    if fault:
        return fault, {}
    with open_image(image) as opened:
        height, width = displayed_size(opened)  # a mask is not turned
    with open_image(mask) as opened:
        if opened.size != (width, height):
            w, h = opened.size
            detail = f' {h} x {w} for {height} x {width}'
            return ('masks have another size than their image', detail), {}
        if opened.mode in ('L', 'P'):
            histogram = opened.histogram()
            return None, {v: n for v, n in enumerate(histogram) if n}
        if len(opened.getbands()) > 1:
            return ('masks are in colour', f' ({opened.mode})'), {}
        found, counts = np.unique(np.asarray(opened), return_counts=True)
    result = {int(v): int(n) for v, n in zip(found, counts)}
    if max(result) > 255:
        detail = f' (up to {max(result)})'
        return ('masks hold numbers above 255', detail), {}
    return None, result


def check_contrast(data: Summary, findings: Findings) -> None:
    """Report training masks of one class, whatever is ignored beside it.

    Args:
        data (Summary): Contents of all training datasets.
        findings (Findings): Extended in place.
    """
    present = [name for name, count in data.objects.items() if count]
    if len(present) == 1 and not findings.errors:
        findings.error(
            'train_dataloader',
            f'every pixel is of the class {present[0]!r} or is ignored: a '
            'model that always answers it has no loss',
            'Give the background a class of its own, the first of metainfo, '
            'with reduce_zero_label=False.',
        )


class _Values:
    """Values of masks, and the class or the fault that each is."""

    def __init__(self, dataset: Any, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.reduced = dataset.reduce_zero_label
        self.ignored = dataset.ignore_index
        # As LoadAnnotations changes them.
        table = np.arange(256)
        if self.reduced:
            table = np.r_[255, np.arange(254), 255]
        if dataset.label_map:
            before = table.copy()
            for old, new in dataset.label_map.items():
                table[before == old] = new
        self.table = table.tolist()
        self.pixels: Counter = Counter()  # by value in the file
        self.examples: dict[int, list[str]] = {}  # of values that are no class

    def add(self, file: str, found: dict[int, int]) -> list[int]:
        """Count a mask's values; return the classes that are in it."""
        present = set()
        for value, count in found.items():
            self.pixels[value] += count
            label = self.table[value]
            if label < len(self.classes):
                present.add(label)
            elif label != self.ignored:
                self.examples.setdefault(value, []).append(f"'{file}'")
        return sorted(present)

    def report(self, where: str, findings: Findings) -> None:
        """Report values that are no class."""
        n, values = len(self.classes), set(self.pixels)
        first = int(self.reduced)
        allowed = f'{first} to {n + first - 1}'
        both = values == {0, 255}
        if (
            both
            or values
            and all(self.table[v] == self.ignored for v in values)
        ):
            findings.error(
                where,
                f'the masks hold {_join(values)} only, and {self.ignored} is '
                f'ignored: {"one class" if both else "nothing"} is left to '
                'train',
                f'Write {allowed} for {summarize(self.classes, 4)}.',
            )
            return
        for value, files in sorted(self.examples.items()):
            findings.error(
                where,
                f'{len(files)} masks hold the value {value}, which is none of '
                f'the {n} classes ({allowed}, or {self.ignored} to ignore): '
                f'{summarize(files, 3)}',
                'Correct the masks, or add the class to metainfo and to every '
                'num_classes.',
            )
        from_0 = values & set(range(n + 1)) == set(range(n))
        if self.reduced and n > 1 and from_0:
            findings.warn(
                where,
                'reduce_zero_label ignores the value 0 and takes 1 for '
                f'{self.classes[0]!r}, and no mask holds {n}',
                'If the masks are numbered from 0, write '
                'reduce_zero_label=False, in LoadAnnotations too.',
            )


def _check_reduce_zero_label(
    where: str, settings: ConfigDict, dataset: Any, findings: Findings
) -> None:
    for step in find_loading(settings):
        given = step.get('reduce_zero_label')
        if given is not None and given != dataset.reduce_zero_label:
            findings.error(
                where,
                f'reduce_zero_label is {dataset.reduce_zero_label} in the '
                f'dataset and {given} in LoadAnnotations',
                'Write the same in both: True if 0 means "no class".',
            )


def _check_list(dataset: Any, samples: list[dict], findings: Findings) -> bool:
    """Check the lines of a list of images, each a name without its suffix."""
    if not samples:
        findings.error(dataset.ann_file, 'it names no image')
        return False
    wrong = []
    for number, sample in enumerate(samples, 1):
        path = sample['img_path']
        name = os.path.basename(path).removesuffix(dataset.img_suffix)
        if not name or (
            name.lower().endswith(SUFFIXES) and not os.path.exists(path)
        ):
            wrong.append(f'{number} {name!r}')
    if wrong:
        findings.error(
            dataset.ann_file,
            f'{len(wrong)} of {len(samples)} lines are empty or have a '
            f'suffix: {summarize(wrong, 3)}',
            f'Write a name in each line, without {dataset.img_suffix!r}.',
        )
    return not wrong


def _describe_no_image(folder: Path, suffix: str) -> tuple[str, str]:
    """Say what lies in a folder without an image of the suffix."""
    found = count_suffixes(folder)
    if not found:
        return 'it has no image', 'Set data_prefix to the folder of images.'
    other, count = found.most_common(1)[0]
    return (
        f'no image ends in {suffix!r}; {count} files end in {other!r}',
        f'Set img_suffix={other!r} in the dataset.',
    )


def _warn_of_other_suffixes(
    where: str, dataset: Any, folder: Path, findings: Findings
) -> None:
    """Warn of images that are not read for their suffix."""
    if dataset.ann_file and os.path.isfile(dataset.ann_file):
        return
    masks = Path(dataset.data_prefix.get('seg_map_path') or folder)
    if folder == masks:
        return
    others = {
        suffix: count
        for suffix, count in count_suffixes(folder).items()
        if not dataset.img_suffix.endswith(suffix)
    }
    if others:
        findings.warn(
            where,
            f'{sum(others.values())} images in {folder} end in '
            f'{summarize(others)}, not in {dataset.img_suffix!r}: they are '
            'not read',
        )


def _join(values: set[int]) -> str:
    return ' and '.join(map(str, sorted(values)))
