"""Run one half of a block: recompute it, compute it in bands, or call it."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .contracts import are_stock, inferred_on_cpu, is_compiling

BAND_BYTES = 9 * 2**20
"""Maximum bytes of a temporary in a band of a block.

Measured on an Intel Xeon (two cores), torch 2.12.1, 2026-11-28."""


def run(
    step: Callable[[Tensor], Tensor],
    x: Tensor,
    branch: Any,
    block: Any,
) -> Tensor:
    """Compute ``step(x)``, one residual half of a block.

    - With ``block.with_cp``, activations are recomputed in the backward pass.
    - At inference on a CPU, a step whose ``branch`` declares a halo (rows
      of the result above and below a row, whose input the row depends on) is
      computed in bands of rows with small temporaries. The temporaries of a
      large map are new pages, and clearing them takes longer than the
      computation.
    - Otherwise the step is called.

    Args:
        step (Callable): Maps (B, C, H, W) to (B, C', H, W).
        x (Tensor): The map, (B, C, H, W).
        branch (nn.Module): Mixer or feed-forward, with an attribute ``halo``:
            a number of rows, or None if a row depends on all rows; a module
            of the user's own may lack it. The stem, which reduces the height,
            has ``stride`` and ``height_of`` too.
        block (nn.Module): Module of the step, with attributes ``with_cp`` and
            ``is_row_wise``: besides the branch a row depends on itself only.

    Returns:
        Tensor: The result, (B, C', H, W).
    """
    if block.with_cp and torch.is_grad_enabled():
        return _recompute(step, x, branch)
    if (
        inferred_on_cpu(x)
        and not block.training
        # A smaller map fits whole: no arch widens it more than eightfold.
        and 8 * x.numel() * x.element_size() > BAND_BYTES
        and (halo := getattr(branch, 'halo', None)) is not None
        and block.is_row_wise
        # The user's own modules may use the names below for something else.
        and are_stock(block)
    ):
        rows = _rows_of_a_band(x, branch)
        stride = getattr(branch, 'stride', 1)
        height = x.shape[2] if stride == 1 else branch.height_of(x.shape[2])
        if rows < x.shape[0] * height:
            return _in_bands(step, x, rows, halo, height, stride)
    return step(x)


def _rows_of_a_band(x: Tensor, branch: nn.Module) -> int:
    width = max((p.shape[0] for p in branch.parameters()), default=1)
    size = getattr(branch, 'band_bytes', BAND_BYTES)
    return max(size // (x.shape[3] * width * x.element_size()), 1)


def _in_bands(
    step: Callable[[Tensor], Tensor],
    x: Tensor,
    rows: int,
    halo: int,
    height: int,
    stride: int,
) -> Tensor:
    """Compute a step in bands of ``rows`` rows, or for whole images.

    ``rows``, ``halo`` and ``height`` are rows of the result.
    """
    batch = x.shape[0]
    images = max(rows // height, 1)
    rows = -(-height // -(-height // rows))  # bands of about the same size
    out: Any = None
    for i in range(0, batch, images):
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first, last = max(top - halo, 0), min(bottom + halo, height)
            end = x.shape[2] if last == height else last * stride
            y = step(x[i : i + images, :, first * stride : end])
            if out is None:
                out = torch.empty(
                    (batch, y.shape[1], height, y.shape[3]),
                    dtype=y.dtype,
                    device=y.device,
                    memory_format=torch.channels_last,
                )
            y = y[:, :, top - first : bottom - first]
            out[i : i + images, :, top:bottom] = y
    return out


def _recompute(
    step: Callable[[Tensor], Tensor], x: Tensor, branch: nn.Module
) -> Tensor:
    # The compiler recomputes without side effects by itself.
    keep: dict[str, Any] = (
        {}
        if is_compiling()
        else dict(context_fn=lambda: (nullcontext(), _KeepStatistics(branch)))
    )
    return checkpoint(step, x, use_reentrant=False, **keep)


class _KeepStatistics:
    """Context that keeps batch norms' statistics during a recomputation.

    Otherwise they would be updated twice in each step.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        self.norms = [
            (m, m.momentum, m.num_batches_tracked.clone())
            for m in self.module.modules()
            if isinstance(m, _BatchNorm)
            and m.training
            and m.track_running_stats
        ]
        for norm, _, _ in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *error: object) -> None:
        for norm, momentum, count in self.norms:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
