"""Operators of regions of interest: align and pool.

mmcv's functions allocate the results; the operators fill them in place.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .common import as_dtype_of, differentiate, in_threads
from .sampling import (
    bilinear,
    bins_of,
    cells_around,
    first_cells,
    sample_places,
    sampling_grids,
    scatter_sums,
)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool bilinear samples in each bin of each region.

    He et al., "Mask R-CNN", ICCV 2017, section 3.

    Args:
        input: (B, C, H, W), in any memory layout.
        rois: (N, 5), index of the image and corners in pixels.
        output: (N, C, aligned_height, aligned_width), filled.
        argmax_y: Shape of ``output`` if the mode is 0, filled with y of the
            largest sample; else empty.
        argmax_x: As ``argmax_y``, filled with x of the largest sample.
        aligned_height: Number of bins of a region, vertically.
        aligned_width: Number of bins of a region, horizontally.
        spatial_scale: Factor from pixels to cells of ``input``.
        sampling_ratio: Samples per bin and axis; 0 for one per cell.
        pool_mode: 0 maximum, 1 average.
        aligned: Measure coordinates from the cells' centres.

    Raises:
        ValueError: On a CPU with ``aligned``, as with the compiled operator: a
            region has a negative size or is not finite.
    """
    size = aligned_height, aligned_width
    features, rois = as_dtype_of(input, rois)
    if aligned and not rois.is_cuda:
        _check_extent(rois)
    if pool_mode == 1:
        align = torch.ops.torchvision.roi_align
        settings = spatial_scale, *size, sampling_ratio, aligned
        features = features.contiguous()
        parts = in_threads(
            lambda part: align(features, part, *settings),
            rois,
            work=output.numel(),
        )
        output.copy_(torch.cat(parts))
        return
    for i, grid in enumerate(
        sampling_grids(rois, size, spatial_scale, sampling_ratio, aligned)
    ):
        if not grid.y.numel():
            output[i], argmax_y[i], argmax_x[i] = _NOTHING, -1, -1
            continue
        samples = bilinear(features[grid.image], grid.y, grid.x)
        samples = samples.unflatten(1, (*size, -1))  # (C, h, w, samples)
        best = samples.argmax(dim=-1)
        largest = samples.gather(-1, best[..., None])[..., 0]
        output[i] = largest
        for place, axis in ((argmax_y, grid.y), (argmax_x, grid.x)):
            axis = axis.view(1, *size, -1).expand_as(samples)
            place[i] = axis.gather(-1, best[..., None])[..., 0]


def _check_extent(rois: Tensor) -> None:
    bad = ~((rois[:, 3:] >= rois[:, 1:3]).all(1) & rois.isfinite().all(1))
    if bad.any():
        i = int(bad.nonzero()[0])
        raise ValueError(
            f'RoIAlign: region {i} of {len(rois)} has a negative size or is '
            f'not finite: (image, x1, y1, x2, y2) = {rois[i].tolist()}. Boxes '
            'become so when training diverges.'
        )


# Initial value of mmcv's search for the largest sample.
_NOTHING = -10000


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input``, (B, C, H, W); see :func:`roi_align_forward`."""
    grad, rois = as_dtype_of(grad_output, rois)
    shape, size = grad_input.shape, (aligned_height, aligned_width)
    if pool_mode == 1:
        if grad.device.type == 'cpu':
            result = _pull_average(
                *(grad, rois, shape, spatial_scale, sampling_ratio, aligned)
            )
        else:
            result = torch.ops.torchvision._roi_align_backward(
                *(grad, rois, spatial_scale, *size, *shape),
                *(sampling_ratio, aligned),
            )
        grad_input.copy_(result)
        return
    base = first_cells(rois, shape)
    found = argmax_y != -1
    y, x = argmax_y.to(grad.dtype), argmax_x.to(grad.dtype)
    cells, weights, _ = cells_around(y, x, *shape[2:])
    # The corners of a place are adjacent, the order in which mmcv adds them.
    place = base[..., None] + torch.stack(cells, dim=-1)
    value = grad[..., None] * torch.stack(weights, dim=-1)
    value = value.where(found[..., None], value.new_zeros(()))
    scatter_sums(grad_input, place, value)


def _pull_average(
    grad: Tensor,
    rois: Tensor,
    shape: torch.Size,
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Sum the gradient of averaged samples into the cells of a map.

    All channels of a cell are computed at once; torchvision's kernel computes
    the cells and weights of each sample again for every channel. Sums are in
    its order, so that results are bitwise equal.

    Args:
        grad: (N, C, h, w).
        rois: (N, 5).
        shape: Shape of the map, (B, C, H, W).
        scale: Factor from pixels to cells.
        sampling_ratio: As in :func:`roi_align_forward`.
        aligned: As in :func:`roi_align_forward`.

    Returns:
        (B, C, H, W), in channels-last memory.
    """
    batch, channels, height, width = shape
    size = grad.shape[2:]
    corners, _, bins = bins_of(rois, size, scale, aligned)
    counts = bins.ceil().long().clamp(min=0)
    if sampling_ratio > 0:
        counts.fill_(sampling_ratio)
    # The last row collects samples outside of the map.
    sums = grad.new_zeros(batch * height * width + 1, channels)
    grad = grad.permute(0, 2, 3, 1)
    for part in _parts(counts, 4 * channels * size.numel()):
        count = counts[part]
        across, down = count.amax(0).tolist()
        axes = [
            sample_places(
                *(corners[part, axis], bins[part, axis], length),
                *(count[:, axis], most),
            )
            for axis, length, most in (
                (1, size[0], down),
                (0, size[1], across),
            )
        ]
        y, x = axes[0][:, :, None, :, None], axes[1][:, None, :, None, :]
        cells, weights, inside = cells_around(y, x, height, width)
        first = rois[part, 0].long().view(-1, 1, 1, 1, 1) * (height * width)
        cells = [(first + cell).where(inside, len(sums) - 1) for cell in cells]
        value = grad[part][:, :, :, None, None, None]
        value = value * torch.stack(weights, dim=-1)[..., None]
        if across * down > 1:
            value = value / count.prod(1).view(-1, 1, 1, 1, 1, 1, 1)
        sums.index_add_(
            0, torch.stack(cells, dim=-1).flatten(), value.view(-1, channels)
        )
    sums = sums[:-1].view(batch, height, width, channels)
    return sums.permute(0, 3, 1, 2)


# Number of values computed at a time, about the size of a cache.
_VALUES = 2**20


def _parts(counts: Tensor, values: int) -> Iterator[slice]:
    """Split regions, in their order, into parts computed at a time.

    Args:
        counts: (N, 2), samples per bin, horizontally and vertically.
        values: Number of values of a region for each sample of a bin.

    Yields:
        Slices of the regions.
    """
    start, across, down = 0, 0, 0
    for i, (x, y) in enumerate(counts.tolist()):
        across, down = max(across, x), max(down, y)
        if i > start and (i - start + 1) * across * down * values > _VALUES:
            yield slice(start, i)
            start, across, down = i, x, y
    if len(counts):
        yield slice(start, len(counts))


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Take the largest cell in each bin of each region.

    Girshick, "Fast R-CNN", ICCV 2015. mmcv's bins differ from torchvision's:
    mmcv does not round a region to whole cells first.

    Args:
        input: (B, C, H, W).
        rois: (N, 5), index of the image and corners in pixels.
        output: (N, C, pooled_height, pooled_width), filled; 0 for a bin
            without a cell.
        argmax: Shape of ``output``, filled with the cell's index in the map;
            -1 for none.
        pooled_height: Number of bins of a region, vertically.
        pooled_width: Number of bins of a region, horizontally.
        spatial_scale: Factor from pixels to cells of ``input``.
    """
    features, rois = as_dtype_of(input, rois)
    height, width = features.shape[2:]
    low = rois[:, 1:3] * spatial_scale
    extent = (rois[:, 3:] + 1) * spatial_scale - low
    ranges = []
    for axis, bins, cells in (
        (1, pooled_height, height),
        (0, pooled_width, width),
    ):
        step = (extent[:, axis] / bins)[:, None]
        number = torch.arange(bins, device=rois.device)
        start = (number * step + low[:, axis, None]).floor()
        stop = ((number + 1) * step + low[:, axis, None]).ceil()
        start = start.long().clamp(0, cells)[..., None]
        stop = stop.long().clamp(0, cells)[..., None]
        cell = torch.arange(cells, device=rois.device)
        ranges.append((cell >= start) & (cell < stop))  # (N, bins, cells)
    valid = (extent > 0).all(dim=1).tolist()
    for i, image in enumerate(rois[:, 0].long().tolist()):
        if not valid[i]:
            output[i], argmax[i] = 0, -1
            continue
        rows, columns = ranges[0][i], ranges[1][i]
        for bin_y, inside_y in enumerate(rows):
            for bin_x, inside_x in enumerate(columns):
                ys, xs = inside_y.nonzero()[:, 0], inside_x.nonzero()[:, 0]
                if not (len(ys) and len(xs)):
                    output[i, :, bin_y, bin_x] = 0
                    argmax[i, :, bin_y, bin_x] = -1
                    continue
                y, x, w = int(ys[0]), int(xs[0]), len(xs)
                part = features[image, :, y : y + len(ys), x : x + w]
                best, place = part.flatten(1).max(dim=1)
                output[i, :, bin_y, bin_x] = best.to(output.dtype)
                argmax[i, :, bin_y, bin_x] = (
                    (place // w + y) * width + place % w + x
                ).to(argmax.dtype)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``grad_input``, (B, C, H, W); see :func:`roi_pool_forward`."""
    grad, rois = as_dtype_of(grad_output, rois)
    place = first_cells(rois, grad_input.shape) + argmax.clamp(min=0)
    value = grad.where(argmax >= 0, grad.new_zeros(()))
    scatter_sums(grad_input, place, value)


# Deformable pooling ----------------------------------------------------------


def _deform_roi_pool(
    input: Tensor,
    offset: Tensor,
    rois: Tensor,
    size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    shift = gamma * offset if offset.numel() else None
    pooled = []
    for grid in sampling_grids(rois, size, scale, sampling_ratio, True, shift):
        samples = bilinear(input[grid.image], grid.y, grid.x)
        count = max(grid.y.numel() // (size[0] * size[1]), 1)
        pooled.append(samples.unflatten(1, (*size, -1)).sum(-1) / count)
    if not pooled:
        return input.new_zeros(0, input.shape[1], *size)
    return torch.stack(pooled)


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Average bilinear samples in bins moved by an offset.

    Dai et al., "Deformable Convolutional Networks", ICCV 2017, section 2.2.

    Args:
        input: (B, C, H, W).
        rois: (N, 5), index of the image and corners in pixels.
        offset: (N, 2, pooled_height, pooled_width), in (x, y) order, as
            fractions of the region; empty for none.
        output: (N, C, pooled_height, pooled_width), filled.
        pooled_height: Number of bins of a region, vertically.
        pooled_width: Number of bins of a region, horizontally.
        spatial_scale: Factor from pixels to cells of ``input``.
        sampling_ratio: Samples per bin and axis; 0 for one per cell.
        gamma: Factor of the offsets.
    """
    features, rois, offset = as_dtype_of(input, rois, offset)
    size = pooled_height, pooled_width
    output.copy_(
        _deform_roi_pool(
            *(features, offset, rois, size),
            *(spatial_scale, sampling_ratio, gamma),
        )
    )


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Fill both gradients; see :func:`deform_roi_pool_forward`."""
    features, rois, offset = as_dtype_of(input, rois, offset)
    if not len(rois):
        return
    size = pooled_height, pooled_width
    settings = rois, size, spatial_scale, sampling_ratio, gamma
    inputs = [features, offset] if offset.numel() else [features]

    def pool(features: Tensor, offset: Tensor = offset) -> Tensor:
        return _deform_roi_pool(features, offset, *settings)

    gradients = differentiate(pool, inputs, grad_output)
    for target, gradient in zip((grad_input, grad_offset), gradients):
        target.copy_(gradient)
