"""Check a config's datasets against each other, its metric and its model."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.fileio import list_from_file
from mmengine.registry import init_default_scope

from mmsmt.weights.reading import summarize

from .building import check_parts
from .cache import load_result, store_result
from .coco import CocoUse, check_coco
from .configured import (
    SPLITS,
    find_class,
    find_loading,
    is_local,
    iter_datasets,
    iter_evaluators,
    list_heads,
    type_name,
)
from .files import check_data_files
from .findings import Findings
from .folders import check_folders
from .images import check_images, read_headers_ahead
from .loops import check_loops
from .segmentation import check_contrast, check_segmentation
from .settings import check_settings
from .shared import check_shared
from .summary import Summary
from .variables import check_variables


def check_config(
    cfg: Config, splits: Iterable[str] = SPLITS
) -> tuple[Findings, dict[str, Summary]]:
    """Check all that a config's loaders and evaluators read.

    Args:
        cfg (Config): The config.
        splits (Iterable[str]): Those of ``train``, ``val``, ``test`` to check.

    Returns:
        tuple[Findings, dict[str, Summary]]: Faults, and the contents of each
        split that was checked.

    Raises:
        DataError: A file or a folder is missing.
    """
    findings = Findings()
    summaries: dict[str, Summary] = {}
    named: dict[str, tuple[str, ...]] = {}
    known: dict[str, _Contents | None] = {}  # val and test are often the same
    splits = [split for split in splits if cfg.get(f'{split}_dataloader')]
    check_data_files(cfg, [f'{split}_dataloader' for split in splits])
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for split in splits:
        parts = []
        for dataset in iter_datasets(cfg, f'{split}_dataloader'):
            if not is_local(dataset):
                findings.warn(f'{split}_dataloader', 'it is not on this disk')
                continue
            name = type_name(dataset)
            if not dataset.get('type') or find_class(dataset) is None:
                findings.error(
                    f'{split}_dataloader',
                    f'there is no dataset of the type {dataset.get("type")!r}',
                    'Correct its name, or import its module: '
                    "custom_imports=dict(imports=['MODULE'])",
                )
                continue
            kind = find_kind(dataset)
            if not kind:
                findings.warn(f'{split}_dataloader', f'{name} is not checked')
                continue
            contents = _check_dataset(
                cfg, split, kind, dataset, findings, known
            )
            if kind == 'BaseSegDataset':
                check_ignored(cfg, split, dataset, findings)
            if contents:
                parts.append(contents[0])
                if contents[1]:
                    named[split] = contents[1]
                    check_num_classes(cfg, contents[1], findings)
                else:  # a list of numbers
                    check_labels(cfg, split, contents[0], findings)
        if parts:
            summaries[split] = sum(parts[1:], parts[0])
            if split == 'train' and cfg.get('default_scope') == 'mmseg':
                check_contrast(summaries[split], findings)
    _compare_classes(named, findings)
    check_shared(summaries, findings)
    check_variables(cfg, findings)
    check_parts(cfg, findings, splits)
    check_settings(cfg, findings)
    if 'train' in splits:
        data = summaries.get('train')
        check_loops(cfg, findings, data.images if data else None)
    return findings, summaries


_Contents = tuple[Summary, tuple[str, ...]]
KINDS = {
    'CocoDataset': ('load_data_list', 'parse_data_info'),
    'BaseSegDataset': ('load_data_list', 'get_label_map'),
    'ImageNet22K': ('load_data_list', '_find_samples'),
    'CustomDataset': ('load_data_list', '_find_samples'),
}
"""Methods that a dataset must share with the class that is checked."""


def find_kind(dataset: ConfigDict) -> str:
    """Return the base of :data:`KINDS` that a dataset reads as, or ''."""
    kind = find_class(dataset)
    for base in getattr(kind, '__mro__', ()):
        if base.__name__ in KINDS:
            same = all(
                getattr(getattr(kind, name), '__func__', getattr(kind, name))
                is getattr(
                    getattr(base, name), '__func__', getattr(base, name)
                )
                for name in KINDS[base.__name__]
            )
            return base.__name__ if same else ''
    return ''


def _check_dataset(
    cfg: Config,
    split: str,
    kind: str,
    dataset: ConfigDict,
    findings: Findings,
    known: dict[str, _Contents | None],
) -> _Contents | None:
    if kind == 'CocoDataset':
        classes = find_classes(dataset, findings)
        if classes is None:
            findings.error(
                f'{split}_dataloader',
                f'{type_name(dataset)} has no classes',
                'Write metainfo=dict(classes=(...)) in every dataset.',
            )
            return None
        use = _find_use(cfg, split, dataset, classes, findings)
        key = repr((use, dataset))
    else:
        steps = find_loading(dataset)
        key = repr({**dataset, 'pipeline': steps, 'test_mode': None})
    if key in known:
        return known[key]
    known[key] = load_result(key, findings)
    if known[key]:
        return known[key]
    own = Findings()
    try:
        if kind == 'CocoDataset':
            known[key] = _check_coco_dataset(dataset, use, own)
        elif kind == 'BaseSegDataset':
            known[key] = check_segmentation(split, dataset, own)
        else:
            known[key] = check_folders(split, dataset, own)
    except (
        AssertionError,
        AttributeError,
        KeyError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        own.error(
            _path(dataset, dataset.get('ann_file') or ''),
            f'{type_name(dataset)} of {split}_dataloader cannot be read: '
            f'{type(error).__name__}: {error}',
        )
    for finding in own:
        findings.add(finding)
    contents = known[key]
    if contents:
        places = set(contents[0].folders)
        if dataset.get('ann_file'):
            places.add(str(_path(dataset, dataset['ann_file'])))
        names = (dataset.get('metainfo') or {}).get('classes')
        if isinstance(names, str):
            places.add(names)
        store_result(key, *contents, own, places)
    return contents


def find_classes(
    dataset: ConfigDict, findings: Findings
) -> tuple[str, ...] | None:
    """Return the class names of a dataset, None if its type is unknown.

    Args:
        dataset (ConfigDict): Settings of the dataset.
        findings (Findings): Extended in place.
    """
    kind = find_class(dataset)
    given = (dataset.get('metainfo') or {}).get('classes')
    for old in ('classes', 'CLASSES'):
        for settings in (dataset, dataset.get('metainfo') or {}):
            if old in settings and settings.get(old) is not given:
                findings.error(
                    type_name(dataset),
                    f'{old}={settings[old]!r} is ignored',
                    'Write metainfo=dict(classes=(...)) in the dataset.',
                )
    if isinstance(given, str) and not Path(given).is_file():
        if Path(given).suffix:
            findings.error(
                type_name(dataset), f"there is no file '{given}' of classes"
            )
            return None
        findings.error(
            type_name(dataset),
            f'metainfo.classes is the string {given!r}, not a tuple: each of '
            'its letters would be a class',
            f'Write a comma: classes=({given!r},)',
        )
        return (given,)
    if isinstance(given, str):
        return tuple(list_from_file(given))  # as mmengine reads it
    if given is not None:
        return tuple(given)
    stock = getattr(kind, 'METAINFO', {}).get('classes')
    return tuple(stock) if stock else None


def check_num_classes(
    cfg: Config, classes: tuple[str, ...], findings: Findings
) -> None:
    """Compare each ``num_classes`` of the model with the data's."""
    places = list(iter_num_classes(cfg.get('model') or {}, 'model'))
    # mmpretrain's makes one-hot labels.
    preprocessor = cfg.get('data_preprocessor') or {}
    places += iter_num_classes(preprocessor, 'data_preprocessor')
    for place, number in places:
        if number != len(classes):
            findings.error(
                place,
                f'num_classes is {number}, and the data has {len(classes)} '
                f'classes {classes[:6]}',
                f'Set num_classes={len(classes)} there.',
            )


def check_labels(
    cfg: Config, split: str, summary: Summary, findings: Findings
) -> None:
    """Compare labels without names with the model's ``num_classes``."""
    highest = max(map(int, summary.objects), default=0)
    for place, number in iter_num_classes(cfg.get('model') or {}, 'model'):
        if number <= highest:
            findings.error(
                place,
                f'num_classes is {number}, and {split}_dataloader has labels '
                f'up to {highest}',
                f'Set num_classes={highest + 1} there, or more.',
            )


def check_ignored(
    cfg: Config, split: str, dataset: ConfigDict, findings: Findings
) -> None:
    """Compare a dataset's ``ignore_index`` with that of the heads."""
    model = cfg.get('model') or {}
    if 'ignore_index' not in dataset:  # which its own code hardly reads
        return
    parts = [
        (f'model.{key}', head)
        for key in ('decode_head', 'auxiliary_head')
        for head in list_heads(model, key)
    ]
    parts += [
        (f'{split}_evaluator', evaluator)
        for evaluator in iter_evaluators(cfg, split)
        if type_name(evaluator) == 'IoUMetric'
    ]
    for place, part in parts:
        other = part.get('ignore_index', 255)
        if other != dataset['ignore_index']:
            findings.error(
                f'{split}_dataloader',
                f'ignore_index is {dataset["ignore_index"]}, and {other} in '
                f'{place}',
                'Write the same in dataset, heads and evaluators.',
            )


def iter_num_classes(node: Any, place: str) -> Iterator[tuple[str, int]]:
    """Yield the ``num_classes`` of a model's heads, with their keys."""
    if isinstance(node, Mapping):
        # A boundary is one class, whatever the data's.
        one = node.get('class_agnostic') or type_name(node) == 'STDCHead'
        if isinstance(node.get('num_classes'), int) and not one:
            yield place, node['num_classes']
        if isinstance(node.get('num_things_classes'), int):
            stuff = node.get('num_stuff_classes') or 0
            yield (
                f'{place} (things, stuff)',
                node['num_things_classes'] + stuff,
            )
        # Their classes are no objects.
        others = {'semantic_head'} | (
            {'rpn_head'} if 'roi_head' in node else set()
        )
        for key, value in node.items():
            if key not in others:
                yield from iter_num_classes(value, f'{place}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from iter_num_classes(value, f'{place}.{i}')


def _path(dataset: ConfigDict, name: str) -> Path:
    return Path(dataset.get('data_root') or '', name)


def _find_use(
    cfg: Config,
    split: str,
    dataset: ConfigDict,
    classes: tuple[str, ...],
    findings: Findings,
) -> CocoUse:
    """Find out how a config uses a dataset; compare loader and evaluators."""
    evaluators = [
        evaluator
        for evaluator in iter_evaluators(cfg, split)
        if type_name(evaluator) == 'CocoMetric'
    ]
    loading = find_loading(dataset)
    masks = any(step.get('with_mask') for step in loading)
    heads = (cfg.get('model') or {}).get('roi_head') or {}
    if split == 'train' and heads.get('mask_head') and loading and not masks:
        findings.error(
            'train_dataloader',
            'LoadAnnotations loads no masks, and the model has a mask_head',
            'Write with_mask=True in it, or model.roi_head.mask_head=None.',
        )
    segm = any('segm' in str(e.get('metric')) for e in evaluators)
    masks |= segm
    filters = {} if dataset.get('test_mode') else dataset.get('filter_cfg')
    filters = filters or {}
    path = _path(dataset, dataset.get('ann_file') or '')
    for evaluator in evaluators:
        read = evaluator.get('ann_file')
        if read and Path(read).resolve() != path.resolve():
            findings.error(
                f'{split}_evaluator',
                f"it reads '{read}', and {split}_dataloader '{path}'",
                'Set both to one file.',
            )
    return CocoUse(
        classes,
        masks=masks,
        evaluated=any(not e.get('format_only') for e in evaluators),
        segm=segm,
        trained=split == 'train',
        filter_empty=filters.get('filter_empty_gt', False),
        min_size=filters.get('min_size', 0),
    )


def _check_coco_dataset(
    dataset: ConfigDict, use: CocoUse, findings: Findings
) -> _Contents:
    path = _path(dataset, dataset.get('ann_file') or '')
    prefixes = dataset.get('data_prefix') or {}
    if 'img' not in prefixes:
        findings.error(
            type_name(dataset),
            f'data_prefix is {dict(prefixes)}, without the key img',
            "Write data_prefix=dict(img='FOLDER').",
        )
    prefix = _path(dataset, prefixes.get('img') or '')
    ahead = read_headers_ahead(prefix)
    try:
        summary = check_coco(path, use, findings) or Summary()
        check_images(prefix, summary.files, findings, ahead)
    finally:
        ahead.stop()
    summary.classes = tuple(use.classes)
    summary.paths = [os.path.join(prefix, name) for name in summary.files]
    summary.folders = set(map(os.path.dirname, summary.paths))
    return summary, summary.classes


def _compare_classes(
    named: Mapping[str, tuple[str, ...]], findings: Findings
) -> None:
    """Compare the class names of all splits."""
    first = next(iter(named), '')
    for split, names in named.items():
        if names == named[first]:
            continue
        text = (
            f'its classes ({summarize(names, 6)}) are not those of '
            f'{first}_dataloader ({summarize(named[first], 6)})'
        )
        absent = [x for x in named[first] if x not in names]
        added = [x for x in names if x not in named[first]]
        if absent:
            text += f'; without ({summarize(absent, 6)})'
        if added:
            text += f'; with ({summarize(added, 6)})'
        findings.error(
            f'{split}_dataloader',
            text,
            'Set the same metainfo in every dataset; folders of classes must '
            'have the same names in all, if need be an empty one.',
        )
