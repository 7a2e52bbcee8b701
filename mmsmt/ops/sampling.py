"""Sampling points of regions, and the cells of a map around them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def bins_of(
    rois: Tensor, size: Sequence[int], scale: float, aligned: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Convert regions from pixels to cells.

    Args:
        rois: (N, 5), index of the image and corners in pixels.
        size: Number of bins, vertically and horizontally.
        scale: Factor from pixels to cells.
        aligned: Measure coordinates from the cells' centres.

    Returns:
        Corners (N, 4), extents (N, 2) and extents of a bin (N, 2), in (x, y)
        order.
    """
    corners = rois[:, 1:] * scale - (0.5 if aligned else 0)
    extent = corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    return corners, extent, extent / extent.new_tensor([size[1], size[0]])


def sample_places(
    start: Tensor, width: Tensor, bins: int, count: Tensor, most: int
) -> Tensor:
    """Place the samples of bins along an axis.

    Args:
        start: (N,), start of each region.
        width: (N,), width of its bins.
        bins: Number of bins of a region.
        count: (N,), samples per bin.
        most: Largest count.

    Returns:
        (N, bins, most) coordinates; outside of any map for missing samples.
    """
    number = torch.arange(most, device=start.device)
    inner = (number + 0.5) * width[:, None] / count[:, None]
    bin_start = (
        start[:, None]
        + torch.arange(bins, device=start.device) * width[:, None]
    )
    place = bin_start[:, :, None] + inner[:, None]
    return place.where(number < count[:, None, None], -2)


class Grid(NamedTuple):
    """Sampling points of a region in the order of bins, (h * w * samples,)."""

    image: int
    y: Tensor
    x: Tensor


def sampling_grids(
    rois: Tensor,
    size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
    shift: Tensor | None = None,
) -> list[Grid]:
    """Place the sampling points of each region, in the order of mmcv.

    Args:
        rois: (N, 5).
        size: Number of bins, vertically and horizontally.
        scale: Factor from pixels to cells.
        sampling_ratio: As in :func:`roi_align_forward`.
        aligned: As in :func:`roi_align_forward`.
        shift: (N, 2, h, w), shift of each bin in (x, y) order, as a fraction
            of the region.
    """
    corners, extent, bins = bins_of(rois, size, scale, aligned)
    counts = (bins.ceil() if sampling_ratio <= 0 else bins).tolist()
    images = rois[:, 0].long().tolist()
    result = []
    for i, image in enumerate(images):
        axes = []
        for axis, length in ((1, size[0]), (0, size[1])):
            count = (
                sampling_ratio if sampling_ratio > 0 else int(counts[i][axis])
            )
            place = sample_places(
                *(corners[i, axis, None], bins[i, axis, None], length),
                *(bins.new_tensor([count]), max(count, 0)),
            )
            axes.append(place[0])  # (bins, samples)
        y = axes[0][:, None, :, None]
        x = axes[1][None, :, None, :]
        if shift is not None:
            across, down = shift[i] * extent[i][:, None, None]
            y = y + down[..., None, None]
            x = x + across[..., None, None]
        y, x = torch.broadcast_tensors(y, x)
        result.append(Grid(image, y.flatten(), x.flatten()))
    return result


def cells_around(
    y: Tensor, x: Tensor, height: int, width: int
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Find the four cells around points.

    Returns:
        Flat indices, weights, and a mask of the points at most one cell
        outside of the map; weights of the other points are zero.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(min=0), x.clamp(min=0)
    y0, x0 = y.detach().long(), x.detach().long()
    last_y, last_x = y0 >= height - 1, x0 >= width - 1
    y0, x0 = y0.clamp(max=height - 1), x0.clamp(max=width - 1)
    y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
    zero = y.new_zeros(())
    low_y = torch.where(last_y, zero, y - y0)
    low_x = torch.where(last_x, zero, x - x0)
    high_y, high_x = 1 - low_y, 1 - low_x
    cells = [y0 * width + x0, y0 * width + x1, y1 * width + x0]
    cells.append(y1 * width + x1)
    weights = [high_y * high_x, high_y * low_x, low_y * high_x]
    weights.append(low_y * low_x)
    weights = [torch.where(inside, weight, zero) for weight in weights]
    return cells, weights, inside


def bilinear(features: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Sample a (C, H, W) map at P points.

    Returns:
        (C, P), differentiable with respect to all arguments.
    """
    flat = features.flatten(1)
    cells, weights, _ = cells_around(y, x, *features.shape[1:])
    first, *rest = (
        weight * flat[:, cell] for cell, weight in zip(cells, weights)
    )
    for term in rest:  # one after the other, as mmcv adds them
        first = first + term
    return first


def first_cells(rois: Tensor, shape: torch.Size) -> Tensor:
    """Return the flat index of each region's first cell in each channel.

    Args:
        rois: (N, 5).
        shape: Shape of the map, (B, C, H, W).

    Returns:
        (N, C, 1, 1).
    """
    channels, height, width = shape[1:]
    channel = torch.arange(channels, device=rois.device)
    plane = rois[:, 0].long()[:, None] * channels + channel
    return (plane * (height * width))[..., None, None]


def scatter_sums(target: Tensor, place: Tensor, value: Tensor) -> None:
    """Fill ``target`` with the sums of values at flat indices."""
    result = value.new_zeros(target.numel())
    result.index_add_(0, place.flatten(), value.flatten())
    target.copy_(result.view(target.shape))
