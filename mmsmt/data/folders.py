"""Check folders of classes, and lists of labels, as mmpretrain reads them."""

import os
from collections import Counter
from pathlib import Path

from mmengine.config import ConfigDict

from mmsmt.errors import UserError
from mmsmt.weights.reading import summarize

from .configured import build_lazily, type_name
from .findings import Findings
from .images import count_suffixes, find_fault, report_faults
from .parallel import map_files
from .summary import Summary

MOST = 200_000
"""Number of images that are opened; of more, a sample."""
LISTED = 30
"""Number of classes that a message lists."""


def check_folders(
    split: str, settings: ConfigDict, findings: Findings
) -> tuple[Summary, tuple[str, ...]] | None:
    """Check the images and labels of a dataset of mmpretrain.

    Args:
        split (str): ``train``, ``val`` or ``test``.
        settings (ConfigDict): Settings of the dataset, a ``CustomDataset``.
        findings (Findings): Extended in place.

    Returns:
        tuple[Summary, tuple[str, ...]]: Contents as a model sees them, and
        the names of the classes in the order of their labels, folders where
        there are, and none of a list of numbers; None if nothing could be
        read.
    """
    where = f'{split}_dataloader'
    dataset = build_lazily(settings)
    given = tuple(dataset.CLASSES or ())
    folder = Path(dataset.img_prefix or '')
    classes = given
    if not dataset.ann_file and dataset.with_label:
        classes = tuple(
            sorted(
                entry.name for entry in os.scandir(folder) if entry.is_dir()
            )
        )
        if getattr(dataset, 'labels_by_name', False):
            classes = given
        elif not _check_names(folder, given, classes, findings):
            return None
    try:
        samples = dataset.load_data_list()
    except UserError as error:
        findings.error(dataset.ann_file or folder, str(error))
        return None
    except (RuntimeError, ValueError) as error:
        findings.error(
            dataset.ann_file or folder,
            f'{type_name(settings)} cannot read it: {error}',
            'Images belong into one folder per class, or into a list of lines '
            '"FILE NUMBER" named by ann_file.',
        )
        return None
    if not samples:
        findings.error(dataset.ann_file or folder, 'it names no image')
        return None
    if not dataset.ann_file:
        _warn_of_other_suffixes(where, folder, len(samples), findings)
    summary = Summary(images=len(samples), unit='images')
    summary.paths = [sample['img_path'] for sample in samples]
    summary.folders = {str(folder), *map(os.path.dirname, summary.paths)}
    labels = Counter(sample.get('gt_label') for sample in samples)
    unnamed = False
    if dataset.with_label:
        unnamed = not classes
        classes = classes or tuple(map(str, range(max(labels) + 1)))
        wrong = [x for x in labels if not 0 <= x < len(classes)]
        if wrong:
            findings.error(
                dataset.ann_file or folder,
                f'the labels {summarize(map(str, sorted(wrong)))} are none of '
                f'the {len(classes)} classes (0 to {len(classes) - 1})',
            )
        for i, name in enumerate(classes):
            summary.objects[name] = labels[i]
        empty = [name for i, name in enumerate(classes) if not labels[i]]
        if empty:
            findings.warn(
                where,
                f'{len(empty)} of {len(classes)} classes have no image: '
                f'{summarize(empty, 6)}',
            )
    _check_files(summary.paths, where, findings)
    if unnamed:
        return summary, ()
    summary.classes = given or classes
    return summary, classes


def _warn_of_other_suffixes(
    where: str, folder: Path, count: int, findings: Findings
) -> None:
    """Warn of images that are not read for their suffix."""
    suffixes = count_suffixes(folder)
    total = sum(suffixes.values())
    if total > count:
        findings.warn(
            where,
            f'{total - count} of {total} images in {folder} are not read: '
            f'they end in {summarize(suffixes)}; extensions of the dataset '
            'says which are',
        )


def _check_names(
    folder: Path,
    given: tuple[str, ...],
    found: tuple[str, ...],
    findings: Findings,
) -> bool:
    """Check the folders' names against the classes that a config gives."""
    hidden = [name for name in found if name.startswith(('.', '__'))]
    if hidden:
        findings.error(
            folder,
            f'the hidden folder {hidden[0]!r} would be a class',
            'Remove it.',
        )
    if given and len(given) != len(found):
        findings.error(
            folder,
            f'it has {len(found)} folders ({summarize(found, 6)}), and '
            f'the config {len(given)} classes ({summarize(given, 6)})',
            "For a dataset of your own write dict(type='CustomDataset', "
            'data_prefix=...), which takes its classes from the folders.',
        )
        return False
    same = sorted(map(str.casefold, given)) == sorted(map(str.casefold, found))
    if same and given != found:
        findings.error(
            folder,
            f'the folders are in the order ({summarize(found, 6)}), and the '
            f'classes in ({summarize(given, 6)}): mmpretrain would swap the '
            'names',
            'Write the classes in the order of the folders, which is that of '
            f'sorted(): {found!r}.'
            if len(found) <= LISTED
            else 'Write the classes in the order of the folders: sorted().',
        )
    return bool(found) or _report_no_folder(folder, findings)


def _report_no_folder(folder: Path, findings: Findings) -> bool:
    findings.error(
        folder,
        'it has no folder of a class',
        'Put the images of each class into a folder of its name.',
    )
    return False


def _check_files(files: list[str], where: str, findings: Findings) -> None:
    step = -(-len(files) // MOST) or 1
    chosen = files[::step]
    if step > 1:
        text = f'of {len(files)} images {len(chosen)} were looked at'
        findings.warn(where, text)
    faults = map_files(find_fault, chosen, f'Images of {where}')
    report_faults(where, chosen, faults, findings)
