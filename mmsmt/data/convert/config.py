"""Write a config that a person would write."""

from pathlib import Path
from typing import NamedTuple

from .recipe import Recipe, needs_more_detections
from .records import Collection

MODELS = {
    'instance': ('mask_rcnn',),
    'detection': ('atss', 'retinanet'),
    'semantic': ('upernet',),
    'classification': ('classifier',),
}
"""Models by task, the default first."""
BASES = {
    'mask_rcnn': ("'mmsmt::smt/mask_rcnn_smt_t_1x.py'", 'Mask R-CNN'),
    'atss': ("'mmsmt::smt/_base_/models/atss.py'", 'ATSS'),
    'retinanet': ("'mmsmt::smt/retinanet_smt_s_3x.py'", 'RetinaNet'),
    'upernet': ("'mmsmt::smt/upernet_smt_t_160k.py'", 'UperNet'),
    'classifier': (
        "['mmsmt::smt/smt_t_in1k.py', 'mmsmt::smt/_base_/models/smt.py']",
        'classifier',
    ),
}
FEW_NAMES = 12
"""Number of classes from which their names are read from a file."""


class _Job(NamedTuple):
    """Arguments of :func:`write_config`, and the code of the backbone."""

    collection: Collection
    recipe: Recipe
    root: Path
    out: Path
    model: str
    size: str
    backbone: str


def write_config(
    collection: Collection,
    recipe: Recipe,
    root: Path,
    out: Path,
    model: str,
    size: str,
    from_scratch: bool = False,
) -> Path:
    """Write ``config.py``, in at most 40 lines.

    Args:
        collection (Collection): The data, split.
        recipe (Recipe): The settings.
        root (Path): Folder of the images.
        out (Path): Folder of the annotations, and of the config.
        model (str): One of :data:`MODELS`.
        size (str): Size of SMT: ``t``, ``s``, ``b`` or ``l``.
        from_scratch (bool): Start without the released weights.
    """
    splits = {name: len(images) for name, images in collection.splits.items()}
    base, title = BASES[model]
    lines = [
        f'# {title} with SMT-{size.upper()} for {root.name} '
        f'({collection.format}): {splits["train"]} images to train, '
        f'{splits["val"]} to validate.',
        f'_base_ = {base}',
        '',
        *_write_names(collection, out),
    ]
    backbone = f'_base_.smt.{size}'
    if from_scratch:
        backbone = f'dict({backbone}, init_cfg=None)'
    write = {
        'semantic': _write_segmentation,
        'classification': _write_classification,
    }.get(collection.task, _write_detection)
    lines += write(_Job(collection, recipe, root, out, model, size, backbone))
    path = out / 'config.py'
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return path


def _write_names(collection: Collection, out: Path) -> list[str]:
    names = collection.classes
    if len(names) <= FEW_NAMES:
        return [f'classes = {tuple(names)!r}']
    path = out.absolute() / 'classes.txt'
    path.write_text('\n'.join(names) + '\n', encoding='utf-8')
    return [f'classes = {str(path)!r}  # {len(names)} names']


def _folder(path: Path) -> str:
    return repr(path.absolute().as_posix().rstrip('/') + '/')


def _write_detection(job: _Job) -> list[str]:
    collection, recipe, root, out, model, size, backbone = job
    number, why = len(collection.classes), recipe.reasons
    masks = ', with_mask=True' if collection.task == 'instance' else ''
    heads = {
        'mask_rcnn': f'roi_head=dict(bbox_head=dict(num_classes={number}), '
        f'mask_head=dict(num_classes={number})),',
    }.get(model, f'bbox_head=dict(num_classes={number}),')
    lines = [
        f'images = {_folder(root)}',
        f'annotations = {_folder(out / "annotations")}',
        'model = dict(',
        f'    backbone={backbone},',
        f'    {heads}',
    ]
    if size == 'l':
        lines.append('    neck=dict(in_channels=[96, 192, 384, 768]),')
    evaluator = "ann_file=annotations + 'val.json'"
    most = needs_more_detections(recipe)
    if most:
        where = f'dict(rcnn=dict(max_per_img={most}))'
        if model != 'mask_rcnn':
            where = f'dict(max_per_img={most})'
        lines.append(
            f'    test_cfg={where},  # an image has {recipe.most} objects'
        )
        evaluator += f', proposal_nums=(100, 300, {max(most, 1000)})'
    test = 'test' if 'test' in collection.splits else 'val'
    tested = evaluator.replace('val.json', f'{test}.json')
    milestones = [round(recipe.epochs * 2 / 3), round(recipe.epochs * 11 / 12)]
    return [
        *lines,
        ')',
        "load = dict(type='LoadImageFromFile')",
        f"label = dict(type='LoadAnnotations', with_bbox=True{masks})",
        f'side = {recipe.side}  # {why["side"]}',
        "resize = dict(type='Resize', scale=(side, side), keep_ratio=True)",
        "flip = dict(type='RandomFlip', prob=0.5)",
        "pack = dict(type='PackDetInputs')",
        "common = dict(data_root=images, data_prefix=dict(img=''), "
        'metainfo=dict(classes=classes))',
        'keep = dict(filter_empty_gt=False, min_size=0)  # negatives too',
        'train_dataloader = dict(',
        f'    batch_size={recipe.batch},  # {why["batch"]}',
        f'    num_workers={recipe.workers},',
        "    dataset=dict(common, ann_file=annotations + 'train.json', "
        'filter_cfg=keep, pipeline=[load, label, resize, flip, pack]),',
        ')',
        'tested = dict(common, pipeline=[load, resize, label, pack])',
        'val_dataloader = dict(dataset=dict(tested, '
        "ann_file=annotations + 'val.json'))",
        'test_dataloader = dict(dataset=dict(tested, '
        f"ann_file=annotations + '{test}.json'))",
        f'val_evaluator = dict({evaluator})',
        f'test_evaluator = dict({tested})',
        f'train_cfg = dict(max_epochs={recipe.epochs}, val_interval='
        f'{recipe.interval})  # {why["epochs"]}',
        'param_scheduler = [',
        "    dict(type='LinearLR', start_factor=0.001, by_epoch=False, "
        f'begin=0, end={recipe.warmup}),  # {why["warmup"]}',
        "    dict(type='MultiStepLR', begin=0, "
        f'end={recipe.epochs}, by_epoch=True, milestones={milestones}, '
        'gamma=0.1),',
        ']',
        *_write_end(recipe, 'coco/bbox_mAP'),
    ]


def _write_end(
    recipe: Recipe, metric: str, by_epoch: bool = True
) -> list[str]:
    interval, log = recipe.interval, min(50, max(1, recipe.iterations // 100))
    by = ''
    if not by_epoch:
        interval, by = _interval(recipe), 'by_epoch=False, '
    return [
        f'optim_wrapper = dict(optimizer=dict(lr={recipe.rate:g}))  # '
        f'{recipe.reasons["rate"]}',
        f'auto_scale_lr = dict(base_batch_size={recipe.batch})',
        f'checkpoint = dict({by}interval={interval}, max_keep_ckpts=2, '
        f"save_best='{metric}')",
        'default_hooks = dict(checkpoint=checkpoint, '
        f'logger=dict(interval={log}))',
    ]


def _interval(recipe: Recipe) -> int:
    return max(1, recipe.iterations // 12)


def _write_segmentation(job: _Job) -> list[str]:
    collection, recipe, root, out, model, size, backbone = job
    number, why, end = (
        len(collection.classes),
        recipe.reasons,
        recipe.iterations,
    )
    in_channels = ('', '')
    if size == 'l':
        in_channels = 'in_channels=[96, 192, 384, 768], ', 'in_channels=384, '
    test = 'test' if 'test' in collection.splits else 'val'

    def prefix(split: str) -> str:
        return f"dict(img_path='images/{split}', seg_map_path='masks/{split}')"

    return [
        f'side = {recipe.side}  # {why["side"]}',
        'model = dict(',
        '    data_preprocessor=dict(size=(side, side)),',
        f'    backbone={backbone},',
        f'    decode_head=dict({in_channels[0]}num_classes={number}),',
        f'    auxiliary_head=dict({in_channels[1]}num_classes={number}),',
        ')',
        "load = dict(type='LoadImageFromFile')",
        "label = dict(type='LoadAnnotations')",
        'augment = [',
        "    dict(type='RandomResize', scale=(4 * side, side), "
        'ratio_range=(0.5, 2.0), keep_ratio=True),',
        "    dict(type='RandomCrop', crop_size=(side, side), "
        'cat_max_ratio=0.75),',
        "    dict(type='RandomFlip', prob=0.5),",
        "    dict(type='PhotoMetricDistortion'),",
        ']',
        "pack = dict(type='PackSegInputs')",
        "resize = dict(type='Resize', scale=(4 * side, side), "
        'keep_ratio=True)',
        "common = dict(type='BaseSegDataset', "
        f'data_root={_folder(out)}, metainfo=dict(classes=classes))',
        'train_dataloader = dict(',
        f'    batch_size={recipe.batch},  # {why["batch"]}',
        f'    num_workers={recipe.workers},',
        f'    dataset=dict(common, data_prefix={prefix("train")}, '
        'pipeline=[load, label, *augment, pack]),',
        ')',
        'tested = dict(common, pipeline=[load, resize, label, pack])',
        f'val_dataloader = dict(dataset=dict(tested, data_prefix='
        f'{prefix("val")}))',
        f'test_dataloader = dict(dataset=dict(tested, data_prefix='
        f'{prefix(test)}))',
        f'train_cfg = dict(max_iters={end}, val_interval={_interval(recipe)})'
        f'  # {why["epochs"]}',
        'param_scheduler = [',
        "    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, "
        f'begin=0, end={recipe.warmup}),  # {why["warmup"]}',
        "    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, "
        f'begin=0, end={end}),',
        ']',
        *_write_end(recipe, 'mIoU', by_epoch=False),
    ]


def _write_classification(job: _Job) -> list[str]:
    collection, recipe, root, out, model, size, backbone = job
    number, why = len(collection.classes), recipe.reasons
    test = 'test' if 'test' in collection.splits else 'val'
    topk = '(1, 5)' if number > 5 else '(1,)'
    channels = 'in_channels=768, ' if size == 'l' else ''
    return [
        f'lists = {_folder(out / "annotations")}',
        'model = dict(',
        f'    backbone={backbone},',
        f'    head=dict({channels}num_classes={number}),',
        '    train_cfg=None,  # Mixup and CutMix are for long trainings',
        ')',
        f'data_preprocessor = dict(num_classes={number})',
        "common = dict(_delete_=True, type='CustomDataset', "
        f'data_root={_folder(root)}, metainfo=dict(classes=classes))',
        'train_dataloader = dict(',
        f'    batch_size={recipe.batch},  # {why["batch"]}',
        f'    num_workers={recipe.workers},',
        "    dataset=dict(common, ann_file=lists + 'train.txt', "
        'pipeline=_base_.train_pipeline),',
        ')',
        'tested = dict(common, pipeline=_base_.test_pipeline)',
        'val_dataloader = dict(dataset=dict(tested, '
        "ann_file=lists + 'val.txt'))",
        'test_dataloader = dict(dataset=dict(tested, '
        f"ann_file=lists + '{test}.txt'))",
        f"val_evaluator = dict(type='Accuracy', topk={topk})",
        'test_evaluator = val_evaluator',
        f'train_cfg = dict(max_epochs={recipe.epochs}, val_interval='
        f'{recipe.interval})  # {why["epochs"]}',
        'param_scheduler = [',
        "    dict(type='LinearLR', start_factor=0.001, by_epoch=False, "
        f'begin=0, end={recipe.warmup}),  # {why["warmup"]}',
        "    dict(type='CosineAnnealingLR', by_epoch=True, "
        f'begin=0, end={recipe.epochs}, convert_to_iter_based=True),',
        ']',
        *_write_end(recipe, 'accuracy/top1'),
    ]
