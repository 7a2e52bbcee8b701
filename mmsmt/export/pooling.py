"""Adaptive pooling by products of matrices, which exporters can take."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class MatrixPool(nn.Module):
    """Average over a grid of windows, as ``nn.AdaptiveAvgPool2d``.

    ONNX has the latter for fixed sizes that the grid divides only.

    Args:
        size (int | tuple[int, int]): Rows and columns of the grid.
    """

    def __init__(self, size: Any) -> None:
        super().__init__()
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, H, W) to (B, C, *size)."""
        rows = _windows(x.shape[-2], self.size[0], x)
        columns = _windows(x.shape[-1], self.size[1], x)
        return rows @ x @ columns.transpose(0, 1)


def _windows(length: Any, count: int, like: Tensor) -> Tensor:
    """Return the (count, length) weights of windows."""
    place = torch.arange(length, device=like.device)
    index = torch.arange(count, device=like.device)[:, None]
    begin = index * length // count
    end = ((index + 1) * length + count - 1) // count
    inside = (place >= begin) & (place < end)
    return inside.to(like.dtype) / (end - begin).to(like.dtype)


@contextlib.contextmanager
def pooling_by_matrices(model: nn.Module) -> Iterator[None]:
    """Replace a model's adaptive pooling inside a ``with`` block."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.AdaptiveAvgPool2d)
        and child.output_size not in (1, (1, 1))
    ]
    for parent, name, child in found:
        setattr(parent, name, MatrixPool(child.output_size))
    try:
        yield
    finally:
        for parent, name, child in found:
            setattr(parent, name, child)
