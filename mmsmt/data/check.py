"""Check a config's datasets against each other, its metric and its model."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, init_default_scope

from .coco import CocoUse, Summary, check_coco
from .configured import SPLITS, iter_datasets, type_name
from .files import check_data_files
from .findings import Findings
from .images import check_images


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
    known: dict[str, Summary | None] = {}  # val and test are often the same
    splits = [split for split in splits if cfg.get(f'{split}_dataloader')]
    check_data_files(cfg, [f'{split}_dataloader' for split in splits])
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for split in splits:
        for dataset in iter_datasets(cfg, f'{split}_dataloader'):
            classes = find_classes(dataset, findings)
            if classes:
                named[split] = classes
            if not _is_coco(dataset) or classes is None:
                name = type_name(dataset)
                findings.warn(f'{split}_dataloader', f'{name} is not checked')
                continue
            use = _find_use(cfg, split, dataset, classes, findings)
            key = repr((use, dataset))
            if key not in known:
                known[key] = _check_coco_dataset(dataset, use, findings)
            summary = known[key]
            if summary:
                summaries[split] = summary
            check_num_classes(cfg, classes, findings)
    _compare_classes(named, findings)
    return findings, summaries


def find_classes(
    dataset: ConfigDict, findings: Findings
) -> tuple[str, ...] | None:
    """Return the class names of a dataset, None if its type is unknown.

    Args:
        dataset (ConfigDict): Settings of the dataset.
        findings (Findings): Extended in place.
    """
    kind = _find_class(dataset)
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
        findings.error(
            type_name(dataset),
            f'metainfo.classes is the string {given!r}, not a tuple: each of '
            'its letters would be a class',
            f'Write a comma: classes=({given!r},)',
        )
        return (given,)
    if isinstance(given, str):
        return tuple(Path(given).read_text().split('\n'))
    if given is not None:
        return tuple(given)
    stock = getattr(kind, 'METAINFO', {}).get('classes')
    return tuple(stock) if stock else None


def check_num_classes(
    cfg: Config, classes: tuple[str, ...], findings: Findings
) -> None:
    """Compare each ``num_classes`` of the model with the data's."""
    for place, number in iter_num_classes(cfg.model, 'model'):
        if number != len(classes):
            findings.error(
                place,
                f'num_classes is {number}, and the data has {len(classes)} '
                f'classes {classes[:6]}',
                f'Set num_classes={len(classes)} there.',
            )


def iter_num_classes(node: Any, place: str) -> Iterator[tuple[str, int]]:
    """Yield the ``num_classes`` of a model's heads, with their keys."""
    if isinstance(node, Mapping):
        if isinstance(node.get('num_classes'), int):
            yield place, node['num_classes']
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


def format_summaries(summaries: Mapping[str, Summary]) -> Iterator[str]:
    """Yield the lines of a table of the datasets' contents."""
    if not summaries:
        return
    yield (
        f'{"":6s} {"images":>8s} {"without":>8s} {"objects":>8s} '
        f'{"small":>8s} {"medium":>8s} {"large":>8s}'
    )
    for split, data in summaries.items():
        total = sum(data.objects.values())
        sizes = ' '.join(
            f'{data.sizes[size]:8d}' for size in ('small', 'medium', 'large')
        )
        yield f'{split:6s} {data.images:8d} {data.empty:8d} {total:8d} {sizes}'
        for reason, count in data.dropped.items():
            yield f'       dropped: {count} {reason}'
    names = dict.fromkeys(
        name for data in summaries.values() for name in data.objects
    )
    width = max(map(len, names), default=0)
    yield f'{"class":{width}s} ' + ' '.join(f'{s:>8s}' for s in summaries)
    for name in names:
        counts = (data.objects[name] for data in summaries.values())
        yield f'{name:{width}s} ' + ' '.join(f'{n:8d}' for n in counts)


def _find_class(dataset: ConfigDict) -> Any:
    if not isinstance(dataset.type, str):
        return dataset.type
    with DATASETS.switch_scope_and_registry(None) as registry:
        return registry.get(dataset.type)


def _is_coco(dataset: ConfigDict) -> bool:
    """Check that a dataset reads its file as mmdet's CocoDataset does."""
    kind = _find_class(dataset)
    for base in getattr(kind, '__mro__', ()):
        if base.__name__ == 'CocoDataset':
            return all(
                getattr(kind, name) is getattr(base, name)
                for name in ('load_data_list', 'parse_data_info')
            )
    return False


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
    evaluators = list(_iter_evaluators(cfg, split))
    masks = any(
        type_name(step) == 'LoadAnnotations' and step.get('with_mask')
        for step in dataset.get('pipeline') or []
    )
    masks |= any('segm' in str(e.get('metric')) for e in evaluators)
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
        evaluated=bool(evaluators),
        filter_empty=filters.get('filter_empty_gt', False),
        min_size=filters.get('min_size', 0),
    )


def _check_coco_dataset(
    dataset: ConfigDict, use: CocoUse, findings: Findings
) -> Summary | None:
    path = _path(dataset, dataset.get('ann_file') or '')
    summary = check_coco(path, use, findings)
    if summary:
        prefix = (dataset.get('data_prefix') or {}).get('img') or ''
        check_images(_path(dataset, prefix), summary.files, findings)
    return summary


def _iter_evaluators(cfg: Config, split: str) -> Iterator[ConfigDict]:
    evaluators = cfg.get(f'{split}_evaluator') or []
    if isinstance(evaluators, dict):
        evaluators = [evaluators]
    for evaluator in evaluators:
        if type_name(evaluator) == 'CocoMetric':
            yield evaluator


def _compare_classes(
    named: Mapping[str, tuple[str, ...]], findings: Findings
) -> None:
    """Compare the class names of all splits."""
    first = next(iter(named), '')
    for split, names in named.items():
        if names != named[first]:
            findings.error(
                f'{split}_dataloader',
                f'its classes {names[:6]} are not those of {first}_dataloader '
                f'{named[first][:6]}',
                'Set the same metainfo in every dataset.',
            )
