"""Shorten a config's schedule, and scale its images."""

from typing import Any

from mmengine.config import Config, ConfigDict

from mmsmt.data.configured import type_name

from .sources import find_source

LENGTH = 6
"""Number of epochs of a rehearsal."""
STEPS = 2
"""Number of optimizer steps per epoch of a rehearsal."""


def scale_images(cfg: Config, scale: float) -> None:
    """Multiply every image size in pipelines and model.

    Args:
        cfg (Config): The config, changed in place.
        scale (float): Factor of the image sizes.
    """

    def scaled(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(scaled(item) for item in value)
        # Fractions, such as torchvision's scale, and None are kept.
        is_size = isinstance(value, (int, float)) and value >= 2
        return max(32, round(value * scale)) if is_size else value

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            sizes = {'scale', 'scales', 'crop_size', 'img_scale'}
            if type_name(node) == 'Pad' or str(node.get('type')).startswith(
                'torchvision/'
            ):
                sizes.add('size')
            return ConfigDict(
                (key, scaled(value) if key in sizes else walk(value))
                for key, value in node.items()
            )
        if isinstance(node, (list, tuple)):
            return type(node)(walk(item) for item in node)
        return node

    if scale == 1:
        return
    for part in ('train', 'val', 'test'):
        if cfg.get(f'{part}_dataloader'):
            cfg[f'{part}_dataloader'] = walk(cfg[f'{part}_dataloader'])
    if cfg.get('tta_pipeline'):
        cfg.tta_pipeline = walk(cfg.tta_pipeline)
    for owner in (cfg, cfg.model):
        preprocessor = owner.get('data_preprocessor') or {}
        if preprocessor.get('size'):
            preprocessor.size = scaled(preprocessor['size'])
    test_cfg = cfg.model.get('test_cfg') or {}
    for key in ('crop_size', 'stride'):  # of mmseg's sliding window
        if test_cfg.get(key):
            test_cfg[key] = scaled(test_cfg[key])


def shorten_schedule(
    cfg: Config,
    length: int = LENGTH,
    images: int | None = None,
    steps: int | None = None,
) -> int:
    """Shorten the schedule, with its steps at the corresponding points.

    Args:
        cfg (Config): The config, changed in place.
        length (int): Number of epochs, at most the config's.
        images (int, optional): Training images of the real run. Defaults to
            those of the recipe's dataset.
        steps (int, optional): Iterations per epoch. Defaults to :data:`STEPS`
            optimizer steps.

    Returns:
        int: Iterations per epoch; a config that counts iterations runs
        ``length`` times as many.
    """
    accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
    steps = steps or STEPS * accumulate
    loop = cfg.train_cfg
    by_epoch = bool(loop.get('max_epochs'))
    if by_epoch:
        total = loop.max_epochs
        length = loop.max_epochs = min(length, total)
        images = total * (images or find_source(cfg).train_images)
        iterations = images / recipe_batch(cfg) * accumulate
        short = length * steps
    else:
        total = iterations = loop.max_iters
        length = loop.max_iters = short = length * steps

    def at(point: float, ratio: float, low: int, high: int) -> int:
        """Scale a point in time, within bounds."""
        return max(low, min(high, round(point * ratio)))

    ratio = length / total
    iter_ratio = short / iterations
    loop.val_interval = at(loop.get('val_interval', 1), ratio, 1, length)
    if loop.get('val_begin'):
        loop.val_begin = at(loop.val_begin, ratio, 1, length)
    if loop.get('dynamic_intervals'):
        loop.dynamic_intervals = [
            (at(begin, ratio, 1, length), at(interval, ratio, 1, length))
            for begin, interval in loop.dynamic_intervals
        ]
    hooks = cfg.get('default_hooks') or {}
    checkpoint = hooks.get('checkpoint') or {}
    interval = checkpoint.get('interval', 1)
    if checkpoint:
        checkpoint.max_keep_ckpts = 2
        if interval > 0 and by_epoch and not checkpoint.get('by_epoch', True):
            checkpoint.interval = at(interval, iter_ratio, 1, short)
        elif interval > 0:
            checkpoint.interval = at(interval, ratio, 1, length)
    for name in ('logger', 'visualization'):
        if hooks.get(name):
            hooks[name].interval = 1
    for hook in [*hooks.values(), *(cfg.get('custom_hooks') or [])]:
        for key, value in (hook or {}).items():
            if key in ('switch_epoch', 'begin_epoch', 'num_last_epochs'):
                hook[key] = at(value, ratio, 1, length)
            elif key in ('switch_iter', 'begin_iter'):
                hook[key] = at(value, iter_ratio, 1, short)

    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    for scheduler in schedulers:
        factor, high = ratio, length
        if by_epoch and not scheduler.get('by_epoch', True):
            factor, high = iter_ratio, short
        # A warm-up needs two steps to change the learning rate.
        low = 1 if scheduler.get('convert_to_iter_based') else 2
        for key in ('begin', 'end', 'T_max', 'total_steps', 'step_size'):
            if scheduler.get(key):
                scheduler[key] = at(scheduler[key], factor, low, high)
        if scheduler.get('milestones'):
            points = [at(m, factor, 1, high - 1) for m in scheduler.milestones]
            for i in range(len(points) - 1, 0, -1):  # distinct
                points[i - 1] = min(points[i - 1], points[i] - 1)
            scheduler.milestones = points
    return steps


def recipe_batch(cfg: Config) -> int:
    """Return the recipe's images per optimizer step, over all GPUs."""
    accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
    batch = cfg.train_dataloader.batch_size * accumulate
    return (cfg.get('auto_scale_lr') or {}).get('base_batch_size') or batch


def lower_score_thresholds(cfg: Config) -> None:
    """Set score thresholds to 0, so that untrained models have predictions."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if 'score_thr' in node:
                node['score_thr'] = 0.0
            node = list(node.values())
        if isinstance(node, (list, tuple)):
            for value in node:
                walk(value)

    walk(cfg.model.get('test_cfg'))
