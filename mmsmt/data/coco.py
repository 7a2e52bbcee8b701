"""Check annotations in COCO's format as mmdet loads and evaluates them."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from mmsmt.runs.collection import paused
from mmsmt.runs.kept import KEPT
from mmsmt.weights.reading import summarize

from .findings import Findings
from .parallel import show_wait
from .shapes import describe_mask_fault, is_box, is_positive
from .summary import Summary

LOST = 0.01
"""Share of the objects of a class that the loader may drop while the metric
counts them: a perfect detector loses as much AP."""
MANY = 100
"""Detections of an image that COCO's metric and the heads keep by default."""
REWRITE = 'Rewrite the file with these faults repaired.'


@dataclass
class CocoUse:
    """The use that a config makes of a COCO file.

    Args:
        classes (Sequence[str]): Names of the classes, in the model's order.
        masks (bool): True if masks are loaded or evaluated.
        evaluated (bool): True if the metric reads the annotations.
        segm (bool): True if it reads their masks.
        trained (bool): True if the model trains on them.
        filter_empty (bool): True if images without objects are dropped.
        min_size (int): Shorter side of the smallest image kept, in pixels.
    """

    classes: Sequence[str]
    masks: bool = False
    evaluated: bool = False
    segm: bool = False
    trained: bool = False
    filter_empty: bool = False
    min_size: int = 0


def read_coco(
    path: Path, findings: Findings, labelled: bool = True
) -> dict[str, Any] | None:
    """Read a COCO file; report what keeps it from being one.

    Args:
        path (Path): The file.
        findings (Findings): Extended in place.
        labelled (bool): Require annotations, which test-dev has not.

    Returns:
        dict: The content, or None if it is no COCO file.
    """
    try:
        with (
            open(path, encoding='utf-8') as file,
            paused(),
            show_wait(path),
        ):
            content = json.load(file)
    except ValueError as error:
        text = f'it is not whole JSON ({error})'
        findings.error(path, text, 'Copy or export it again.')
        return None
    if isinstance(content, dict) and 'shapes' in content:
        findings.error(
            path,
            'it is a LabelMe file of one image, not a COCO file',
            'Convert the folder of LabelMe files to one COCO file.',
        )
        return None
    if isinstance(content, dict) and not labelled:
        content.setdefault('annotations', [])
    keys = ('images', 'annotations', 'categories')
    missing = [
        key
        for key in keys
        if not isinstance(content, dict)
        or not isinstance(content.get(key), list)
    ]
    if missing:
        found = list(content)[:5] if isinstance(content, dict) else 'a list'
        findings.error(
            path,
            f'it has no list {" and ".join(map(repr, missing))} (found: '
            f'{found})',
            'A COCO file has the lists images, annotations and categories.',
        )
        return None
    return content


def check_coco(path: Path, use: CocoUse, findings: Findings) -> Summary | None:
    """Check a COCO file against the config that uses it.

    Args:
        path (Path): The file.
        use (CocoUse): The use that the config makes of it.
        findings (Findings): Extended in place.

    Returns:
        Summary: Contents as a model sees them; None if it is no COCO file.
    """
    labelled = use.trained or use.evaluated
    content = read_coco(path, findings, labelled)
    if content is None:
        return None
    checker = _Checker(path, use, findings)
    KEPT.put(path, content)
    with paused(), show_wait(path):
        notes = content['annotations']
        checker.check_categories(content['categories'], notes)
        checker.check_images(content['images'])
        checker.check_annotations(notes)
        return checker.summarize()


class _Checker:
    """Checks of one file; each collects its faults by kind."""

    def __init__(self, path: Path, use: CocoUse, findings: Findings) -> None:
        self.path = path
        self.use = use
        self.findings = findings
        self.classes = frozenset(use.classes)
        self.names: dict[Any, str] = {}  # of categories, by id
        self.images: dict[Any, dict] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.objects: dict[Any, list[str]] = defaultdict(list)
        self.evaluated: Counter = Counter()  # by class
        self.lost: Counter = Counter()  # of them, by class
        self.examples: dict[str, str] = {}  # of drops, by reason
        self.small: set = set()  # ids of images below min_size
        self.summary = Summary()

    # Categories

    def check_categories(
        self, categories: list[dict], annotations: list[dict]
    ) -> None:
        """Compare the file's categories with the config's classes."""
        classes = list(self.use.classes)
        for category in categories:
            if not {'id', 'name'} <= set(category):
                self._error(f'a category has no id or no name: {category}')
                return
            if category['id'] in self.names:
                self._error(
                    f'two categories have the id {category["id"]}: '
                    f"'{self.names[category['id']]}' and "
                    f"'{category['name']}'"
                )
            self.names[category['id']] = category['name']
        counts = Counter(
            self.names.get(note.get('category_id')) for note in annotations
        )
        for name, number in Counter(self.names.values()).items():
            if number > 1 and name in classes:
                ids = [i for i, other in self.names.items() if other == name]
                self._error(
                    f"{number} categories have the name '{name}' (ids "
                    f'{", ".join(map(str, ids))}): mmdet would make {number} '
                    'classes',
                    'Remove those without objects from the file, or merge '
                    'them; mmsmt data does the former.',
                )
                return
        names = list(self.names.values())
        known = [name for name in names if name in classes]
        if names and not known:
            self._error(
                f'none of its categories {_shorten(names)} is among the '
                f'{len(classes)} classes of the config {_shorten(classes)}',
                f'Set metainfo=dict(classes={tuple(names)!r}) in every '
                f'dataset, and num_classes={len(names)} in every head.',
            )
            return
        present = [name for name in classes if name in names]
        absent = [name for name in classes if name not in names]
        for name in names:
            if name in classes or not counts[name]:
                continue
            text = (
                f"category '{name}' with {counts[name]} objects is not among "
                f'the classes {_shorten(classes)}'
            )
            if absent:
                self._error(text, self._find_similar(name, absent))
            else:  # a chosen part of the categories
                self.findings.warn(self.path, f'{text}: they are left out')
        if known != present:
            self._error(
                f'its categories are in the order {_shorten(known)} and the '
                f'classes in {_shorten(present)}: mmdet would swap the names',
                f'Write the classes in the order of the file: '
                f'classes={tuple(known)!r}',
            )
        elif absent:
            self._error(
                f'it has no category {_shorten(absent)}: mmdet would count '
                'every later class as the one before it',
                'Add the category to the file, or remove the class from the '
                'config.',
            )
        empty = [name for name in present if not counts[name]]
        if empty and counts:
            self.findings.warn(
                self.path,
                f'{len(empty)} of {len(classes)} classes have no object in it:'
                f' {_shorten(empty)}',
            )

    @staticmethod
    def _find_similar(name: str, classes: Iterable[str]) -> str:
        fold = str(name).strip().casefold()
        for other in classes:
            if str(other).strip().casefold() == fold:
                return f"The config writes '{other}': use one spelling."
        return (
            'Add it to metainfo.classes and count it in every num_classes, or '
            'remove its objects from the file.'
        )

    # Images

    def check_images(self, images: list[dict]) -> None:
        """Check ids, names and sizes of images."""
        for number, image in enumerate(images):
            missing = {'id', 'file_name', 'height', 'width'} - set(image)
            label = image.get('file_name', f'number {number}')
            if missing:
                self._fault(f'images have no {_join(missing)}', label)
                continue
            if image['id'] in self.images:
                self._fault('images have the id of another', label)
            size = image['height'], image['width']
            if not all(isinstance(v, (int, float)) and v > 0 for v in size):
                self._fault('images have no positive size', label)
                continue
            self.images[image['id']] = image
        names = Counter(x['file_name'] for x in self.images.values())
        again = [f"'{name}'" for name, count in names.items() if count > 1]
        if again:
            self.findings.warn(
                self.path,
                f'{len(again)} images are in it more than once: '
                f'{_shorten(again, 3)}; the objects of one entry are '
                'background in the others',
                'Join the entries of each, unless all have the same objects.',
            )
        small = [
            image
            for image in self.images.values()
            if min(image['height'], image['width']) < self.use.min_size
        ]
        if small:
            self.summary.dropped[
                f'images are below min_size {self.use.min_size}'
            ] = len(small)
        if not images:
            self._error('it has no image')
        elif len(small) == len(images):
            self._error(
                f'all {len(small)} images are smaller than filter_cfg.min_size'
                f' {self.use.min_size} and are dropped',
                'Set filter_cfg.min_size below their shorter side.',
            )
        self.small = {image['id'] for image in small}

    # Annotations

    def check_annotations(self, annotations: list[dict]) -> None:
        """Check ids, references, boxes and masks of annotations."""
        ids: set = set()
        crowd = fractions = corners = ordered = beyond = 0
        if not annotations:
            text = 'it has no annotation'
            if self.use.evaluated:
                self._error(f'{text}: AP would be -1')
            elif self.use.trained:
                self._error(f'{text}: there is nothing to train on')
        wanted = {'image_id', 'category_id', 'bbox', 'area'}
        wanted |= {'iscrowd'} if self.use.evaluated else set()
        for number, note in enumerate(annotations):
            key = note.get('id')
            fault = ''
            if type(key) is not int:
                fault = 'annotations have an id that is no number'
                if key is None:
                    fault = 'annotations have no id'
                elif isinstance(key, Integral) and key is not True:
                    fault = ''
            elif key in ids:
                fault = 'annotations have the id of another'
            elif key == 0 and self.use.evaluated:
                fault = (
                    "annotations have the id 0, which COCO's metric takes for "
                    '"not matched"'
                )
            if fault:
                self._fault(fault, self._label(number, note))
            ids.add(key)
            if note.get('iscrowd', 0) not in (0, 1):
                self._fault(
                    'annotations have an iscrowd that is neither 0 nor 1',
                    self._label(number, note),
                )
            if not wanted <= note.keys():
                missing = _join(wanted - note.keys())
                self._fault(
                    f'annotations have no {missing}', self._label(number, note)
                )
            image = self.images.get(note.get('image_id'))
            box: Any = note.get('bbox')
            fault = ''
            if image is None:
                fault = 'annotations name an image that is absent'
            elif note.get('category_id') not in self.names:
                fault = 'annotations name a category that is absent'
            crowd += bool(not fault and note.get('iscrowd'))
            if not fault and not is_box(box):
                fault = 'boxes are not four finite numbers'
            if fault or image is None:
                self._fault(fault, self._label(number, note))
                continue
            x, y, w, h = box
            height, width = image['height'], image['width']
            fractions += x <= 1 and y <= 1 and w <= 1 and h <= 1
            leaves = x + w > width + 1 or y + h > height + 1
            beyond += leaves or x < -1 or y < -1
            if w > x and h > y:
                ordered += 1
                corners += leaves
            self._check_object(number, note, image)
        total = len(annotations)
        if total and crowd == total:
            self._error(
                f'all {total} annotations have iscrowd=1: none is trained or '
                'evaluated',
                'Set iscrowd to 0 for single objects.',
            )
        if total and fractions > total / 2:
            self._error(
                f'{fractions} of {total} boxes lie within 1 x 1 pixel: they '
                'look like fractions of the image (YOLO)',
                'COCO boxes are [x, y, width, height] in pixels.',
            )
        elif total and ordered > 0.9 * total and corners > 0.1 * total:
            self._error(
                f'{ordered} of {total} boxes have a third and fourth number '
                f'above the first and second, and {corners} leave their image:'
                ' they look like corners [x1, y1, x2, y2]',
                'COCO boxes are [x, y, width, height] in pixels.',
            )
        elif beyond:
            self.findings.warn(
                self.path,
                f'{beyond} of {total} boxes leave their image by more than a '
                'pixel, as those of [center x, center y, width, height] would',
            )

    def _check_object(self, number: int, note: dict, image: dict) -> None:
        """Check a box and a mask; count the object, or its loss."""
        name = self.names[note['category_id']]
        if name not in self.classes:
            return
        x, y, w, h = note['bbox']
        outside = x >= image['width'] or y >= image['height']
        reason = ''
        if w <= 0 or h <= 0:
            reason = 'objects have no positive width and height'
        elif outside or x + w <= 0 or y + h <= 0:
            reason = 'objects lie outside their image'
        elif w < 1 or h < 1:
            reason = 'objects are narrower than one pixel'
        elif not is_positive(note.get('area', 1)):
            reason = 'objects have no positive area'
        elif note.get('ignore'):
            reason = 'objects have ignore=1'
        counted = not note.get('iscrowd')
        self.evaluated[name] += counted
        if reason:
            self.lost[name] += counted
            self.summary.dropped[reason] += 1
            if reason not in self.examples:
                self.examples[reason] = self._label(number, note)
            return
        if self.use.masks:
            fault = describe_mask_fault(
                note.get('segmentation'), image, self.use.segm
            )
            if fault:
                self._fault(fault, self._label(number, note))
                self.lost[name] += counted
        if counted:
            self.objects[note['image_id']].append(name)
            area = note.get('area', w * h)
            self.summary.sizes[
                'small'
                if area < 32**2
                else 'medium'
                if area < 96**2
                else 'large'
            ] += 1

    # Results

    def summarize(self) -> Summary:
        """Report the collected faults; return the contents."""
        for text, labels in self.faults.items():
            self._error(
                f'{len(labels)} {text}: {_shorten(labels, 3)}', REWRITE
            )
        for reason, count in self.summary.dropped.items():
            if not reason.startswith('objects'):
                continue
            total = sum(self.evaluated.values())
            text = f'{count} of {total} {reason}: {self.examples[reason]}'
            share = max(
                self.lost[name] / self.evaluated[name]
                for name in self.evaluated
                if self.evaluated[name]
            )
            if share > LOST:
                self._error(f'{text}; they are dropped', REWRITE)
            else:
                self.findings.warn(self.path, f'{text}; they are dropped')
        crowded = [
            (len(names), self.images[key]['file_name'])
            for key, names in self.objects.items()
            if len(names) > MANY
        ]
        if crowded:
            most, name = max(crowded)
            self.findings.warn(
                self.path,
                f'{len(crowded)} images have more than {MANY} objects, '
                f"'{name}' {most}",
                'Raise max_per_img of test_cfg and proposal_nums of the '
                'evaluator.',
            )
        summary = self.summary
        used = [key for key in self.images if key not in self.small]
        empty = [key for key in used if not self.objects[key]]
        if empty and self.use.filter_empty:
            summary.dropped['images have no object'] = len(empty)
            used = [key for key in used if self.objects[key]]
        else:
            summary.empty = len(empty)
        summary.images = len(used)
        for key in used:
            image = self.images[key]
            size = image['height'], image['width']
            summary.files[image['file_name']] = size
            summary.objects.update(self.objects[key])
        return summary

    def _label(self, number: int, note: dict) -> str:
        image = self.images.get(note.get('image_id'))
        where = f" in '{image['file_name']}'" if image else ''
        return f'annotation {note.get("id", f"number {number}")}{where}'

    def _fault(self, text: str, label: str) -> None:
        self.faults[text].append(label)

    def _error(self, text: str, remedy: str = '') -> None:
        self.findings.error(self.path, text, remedy)


def _join(names: Iterable[str]) -> str:
    return ', '.join(sorted(names))


def _shorten(names: Iterable[str], limit: int = 6) -> str:
    return f'({summarize(map(str, names), limit)})'
