"""Non-maximum suppression with results of fixed shape, for exporters."""

from typing import Any

import torch
import torchvision
from torch import Tensor

MOST = 8192
"""Candidates of an image that PyTorch's form looks at, the best first."""


class _Keep(torch.autograd.Function):
    """The suppression, as one operator of ONNX."""

    @staticmethod
    def forward(
        ctx: Any, boxes: Tensor, scores: Tensor, threshold: float
    ) -> Tensor:
        return _keep(boxes, scores, threshold)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, threshold: float) -> Any:
        def constant(value: Any, dtype: torch.dtype) -> Any:
            return g.op('Constant', value_t=torch.tensor(value, dtype=dtype))

        shape = g.op('Shape', scores)
        number = g.op(
            'Gather', shape, constant([1], torch.int64), axis_i=0
        )  # as many as there are
        found = g.op(
            'NonMaxSuppression',
            boxes,
            g.op('Unsqueeze', scores, constant([1], torch.int64)),
            number,
            constant([threshold], torch.float32),
            constant([0.0], torch.float32),
        )  # (K, 3): image, class, box
        places = g.op('Gather', found, constant([0, 2], torch.int64), axis_i=1)
        count = g.op(
            'Gather', g.op('Shape', found), constant([0], torch.int64)
        )
        one = torch.ones(1, dtype=torch.float32)
        kept = g.op(
            'ScatterND',
            g.op('Mul', scores, constant(0.0, torch.float32)),
            places,
            g.op('Expand', g.op('Constant', value_t=one), count),
        )
        kept.setType(scores.type())
        return kept


def _keep(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    rows = []
    number = min(MOST, scores.shape[1])
    for box, score in zip(boxes.unbind(), scores.unbind()):
        # A number that does not depend on the image, for torch.export.
        best, candidate = score.topk(number)
        chosen = torchvision.ops.nms(box[candidate], best, threshold)
        row = torch.zeros_like(score)
        rows.append(row.scatter(0, candidate[chosen], torch.ones_like(best)))
    return torch.stack(rows)


def suppress(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    threshold: float,
    limit: Tensor,
) -> Tensor:
    """Set the scores of suppressed boxes to 0.

    Args:
        boxes (Tensor): (B, N, 4) corners in pixels, inside the image.
        scores (Tensor): (B, N), 0 for what is no candidate.
        groups (Tensor): (B, N) or (N,) classes or levels; boxes suppress
            those of their group.
        threshold (float): Overlap (IoU) from which a box is suppressed.
        limit (Tensor): (2,) width and height of the image.

    Returns:
        Tensor: (B, N) scores.
    """
    # As mmcv does, each group is moved to a place of its own.
    step = limit.max().to(boxes.dtype) + 1
    moved = boxes + (groups.to(boxes.dtype) * step)[..., None]
    if torch.onnx.is_in_onnx_export():
        kept = _Keep.apply(moved, scores, threshold)
    else:
        kept = _keep(moved, scores, threshold)
    return scores * kept
