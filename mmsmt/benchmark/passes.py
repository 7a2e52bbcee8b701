"""Measure one pass of a task, and count its minimal cost."""

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from mmsmt.analysis.complexity import count_complexity
from mmsmt.errors import UserError

from .machine import DTYPES, clock, median_time, peak_memory
from .rows import build_backbone, build_detector, keep_in_fp32
from .runtimes import RUNTIMES, Exported

TASKS = ('inference', 'training', 'detector')


def make_targets(size: tuple[int, int]) -> object:
    """Make the annotations of an image with eight objects."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    height, width = size
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(8, 2, generator=generator) / 2
    end = start + 0.1 + torch.rand(8, 2, generator=generator) * 0.35
    scale = torch.tensor([width, height])
    boxes = torch.cat([start * scale, end * scale], dim=1)
    masks = torch.zeros(8, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
        mask[y1:y2, x1:x2] = 1
    target = DetDataSample(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            scale_factor=(1.0, 1.0),
        )
    )
    target.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(8, dtype=torch.long),
        masks=BitmapMasks(masks.numpy(), height, width),
    )
    return target


def memory_format(args: argparse.Namespace) -> torch.memory_format:
    """Return the memory layout of weights and images."""
    return (
        torch.channels_last if args.channels_last else torch.contiguous_format
    )


def make_pass(
    args: argparse.Namespace, model: Any, size: tuple[int, int]
) -> Callable[[], None]:
    """Make a function that runs the task once on random images."""
    shape = (args.batch, 3, *size)
    images = torch.rand(shape, device=args.device)
    layout = memory_format(args)
    images = images.to(memory_format=layout)
    autocast = (
        torch.autocast(args.device, dtype=getattr(torch, DTYPES[args.dtype]))
        if args.dtype != 'fp32'
        else nullcontext()
    )
    if args.task == 'inference':
        model.eval()

        def once() -> None:
            with torch.no_grad(), autocast:
                model(images)

    elif args.task == 'training':
        model.train()

        def once() -> None:
            model.zero_grad()
            with autocast:
                outs = model(images)
            sum(out.float().square().mean() for out in outs).backward()

    else:
        model.train()
        model.optimizer = getattr(
            model, 'optimizer', None
        ) or torch.optim.AdamW(model.parameters(), lr=1e-6)
        batch = dict(
            inputs=list((images * 255).to(torch.uint8).cpu()),
            data_samples=[make_targets(size) for _ in range(args.batch)],
        )

        def once() -> None:
            data = model.data_preprocessor(batch, training=True)
            data['inputs'] = data['inputs'].to(memory_format=layout)
            model.zero_grad()
            with autocast:
                losses = model(**data, mode='loss')
            model.parse_losses(losses)[0].backward()
            model.optimizer.step()

    return once


def build_model(args: argparse.Namespace) -> Any:
    """Build the model of a row, and run its task once.

    Raises:
        UserError: The detector of ``args.config`` cannot be trained so.
    """
    model = build_backbone(args, args.row)
    if args.row == 'mmsmt compiled':
        model.compile(dynamic=False)
    if args.row in RUNTIMES:  # keeps the memory of its first pass
        shape = (args.batch, 3, *args.size)
        return Exported(args.row, model, shape, args.dtype)
    try:
        if args.task == 'detector':
            model = build_detector(model, args.config)
            if args.dtype == 'bf16':  # compiled nms and RoIAlign lack bf16
                keep_in_fp32(model)
        model = model.to(args.device).to(  # type: ignore[call-overload]
            memory_format=memory_format(args)
        )
        warm_up(args, model)
    except Exception as error:
        if args.task != 'detector' or not args.config:
            raise
        raise UserError(
            f"'{args.config}' cannot be trained on three-channel images with "
            'boxes and masks of class 0, which is all that the benchmark has: '
            f'{type(error).__name__}: {error}'
        ) from error
    return model


def warm_up(args: argparse.Namespace, model: Any) -> None:
    """Run the task once, on small images where the model takes any size."""
    first, size = argparse.Namespace(**vars(args)), tuple(args.size)
    if args.row != 'mmsmt compiled':
        size = (64, 64)
        first.batch = max(args.batch, 2)  # a BN rejects a single 1 x 1 map
    make_pass(first, model, size)()


def measure_pass(args: argparse.Namespace) -> dict:
    """Measure a pass: seconds, and bytes above the model at rest."""
    model = build_model(args)
    once = make_pass(args, model, tuple(args.size))
    model.zero_grad()
    if args.device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    rest = peak_memory(args.device)
    once()
    first = clock(once, args.device)
    peak = peak_memory(args.device)
    return dict(
        seconds=median_time(once, args.device, first), memory=peak - rest
    )


def measure_costs(args: argparse.Namespace) -> dict:
    """Count the operations and bytes of each row."""
    return {row: count_cost(args, row) for row in args.rows}


def count_cost(args: argparse.Namespace, row: str) -> dict:
    """Count the operations and bytes that the task needs at least."""
    size = tuple(args.size)
    stored = args.task == 'training' and row != 'mmsmt with_cp'
    row = row.removesuffix(' with_cp')
    model = build_backbone(args, row)
    parameters = sum(p.nbytes for p in model.parameters())
    floats = 4 if args.dtype == 'fp32' else 2
    macs = count_complexity(build_backbone(args, row), size).macs * args.batch
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    model = model.to('meta')
    image = torch.empty(args.batch, 3, *size, device='meta')
    training = args.task == 'training'
    model.train(training)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        # On the meta device attention would keep the whole N x N map. This
        # replacement keeps less than a fused kernel.
        mock.patch('mmsmt.layers.attention.attend', lambda q, k, v: q * v),
    ):
        outs = model(image)
    crossed = sum(out.numel() for out in outs) * floats + image.nbytes
    if stored:
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        activations = sum(
            storage.nbytes()
            for key, storage in kept.items()
            if key not in weights
        )
        crossed += 2 * activations * floats // 4
    passes = 3 if training else 1  # recomputation is not counted
    return dict(flops=2 * macs * passes, bytes=crossed + parameters * passes)
