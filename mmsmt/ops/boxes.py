"""Operators of boxes: suppression and overlaps, upright and rotated."""

import numpy as np
import torch
from torch import Tensor

from .common import as_dtype_of, at_least_float32


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    """Suppress boxes that overlap a better one.

    Args:
        boxes: (N, 4), corners.
        scores: (N,).
        iou_threshold: Boxes with a larger overlap are suppressed.
        offset: 0, or 1 where a box of one pixel has equal corners.

    Returns:
        (K,) indices of the kept boxes, best first.
    """
    boxes, scores = as_dtype_of(boxes, scores)
    if offset:
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    # mmcv compares in single precision, torchvision in double.
    threshold = float(np.float32(iou_threshold))
    # Sort as mmcv does, to keep its order of equal scores.
    scores, order = scores.sort(descending=True)
    kept = torch.ops.torchvision.nms(boxes[order], scores, threshold)
    return order[kept]


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that overlap a better one.

    Bodla et al., "Soft-NMS", ICCV 2017. On the CPU, one kept box at a time.

    Args:
        boxes: (N, 4), corners, on the CPU.
        scores: (N,).
        dets: (N, 5), filled in its first K rows with boxes and new scores.
        iou_threshold: Overlap from which methods 0 and 1 lower a score.
        sigma: Width of the Gaussian of method 2.
        min_score: Boxes with a lower score are dropped.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: As in :func:`nms`.

    Returns:
        (K,) indices of the boxes in ``dets``.
    """
    corners = at_least_float32(boxes).detach().numpy()
    x1, y1, x2, y2 = corners.T.copy()
    score = scores.detach().to(torch.from_numpy(x1).dtype).numpy().copy()
    area = (x2 - x1 + offset) * (y2 - y1 + offset)
    index = np.arange(len(score))
    columns = (x1, y1, x2, y2, score, area, index)
    count = len(score)
    i = 0
    while i < count:
        rest = score[i:count]
        best = 0
        if not np.isnan(rest[0]):  # a comparison with NaN is never true
            best = int(np.argmax(np.where(np.isnan(rest), -np.inf, rest)))
        for column in columns:
            column[i], column[i + best] = column[i + best], column[i]
        others = slice(i + 1, count)
        width = np.minimum(x2[i], x2[others]) - np.maximum(x1[i], x1[others])
        height = np.minimum(y2[i], y2[others]) - np.maximum(y1[i], y1[others])
        inter = (width + offset).clip(0) * (height + offset).clip(0)
        with np.errstate(divide='ignore', invalid='ignore'):
            overlap = inter / (area[i] + area[others] - inter)
        if method == 2:
            score[others] *= np.exp(-(overlap * overlap) / sigma)
        else:
            lowered = 1 - overlap if method == 1 else np.zeros_like(overlap)
            score[others] *= np.where(overlap >= iou_threshold, lowered, 1)
        count = _drop(columns, i + 1, count, score[others] < min_score)
        i += 1
    kept = np.stack([x1, y1, x2, y2, score], axis=1)[:count]
    dets[:count] = torch.from_numpy(kept).to(dets.dtype)
    return torch.from_numpy(index[:count].copy())


def _drop(
    columns: tuple[np.ndarray, ...], start: int, stop: int, drop: np.ndarray
) -> int:
    """Fill each dropped position with the last kept box, as mmcv does.

    Returns:
        The new end of the columns.
    """
    kept = len(drop) - int(drop.sum())
    holes = np.flatnonzero(drop[:kept])
    fill = (kept + np.flatnonzero(~drop[kept:]))[::-1]
    for column in columns:
        part = column[start:stop]
        part[holes] = part[fill]
    return start + kept


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group each kept box with the boxes that it suppresses.

    Args:
        dets: (N, 5), corners and score, on the CPU.
        iou_threshold: Overlap from which a box is suppressed.

    Returns:
        Indices, a list for each kept box: itself, then the others, each in
        the order of their scores.
    """
    boxes = at_least_float32(dets)
    order = boxes[:, 4].sort(descending=True)[1].numpy()
    x1, y1, x2, y2 = boxes[order, :4].numpy().T
    area = (x2 - x1) * (y2 - y1)
    alive = np.ones(len(order), dtype=bool)
    threshold = np.float32(iou_threshold)
    groups = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        others = i + 1 + np.flatnonzero(alive[i + 1 :])
        width = np.minimum(x2[i], x2[others]) - np.maximum(x1[i], x1[others])
        height = np.minimum(y2[i], y2[others]) - np.maximum(y1[i], y1[others])
        inter = width.clip(0) * height.clip(0)
        with np.errstate(divide='ignore', invalid='ignore'):
            overlap = inter / (area[i] + area[others] - inter)
        others = others[overlap >= threshold]
        alive[others] = False
        groups.append([int(order[i]), *order[others].tolist()])
    return groups


def bbox_overlaps(
    bboxes1: Tensor,
    bboxes2: Tensor,
    ious: Tensor,
    mode: int,
    aligned: bool,
    offset: int,
) -> None:
    """Compute the overlaps of boxes.

    Args:
        bboxes1: (N, 4), corners.
        bboxes2: (M, 4); (N, 4) if ``aligned``.
        ious: (N, M), or (N,) if ``aligned``; filled.
        mode: 0 intersection over union, 1 over the area of ``bboxes1``.
        aligned: Compare the boxes of equal index only.
        offset: As in :func:`nms`.
    """
    first, second = as_dtype_of(bboxes1, bboxes2)
    if not aligned:
        first, second = first[:, None], second[None]

    def area(corner1: Tensor, corner2: Tensor) -> Tensor:
        return (corner2 - corner1 + offset).clamp(min=0).prod(dim=-1)

    inter = area(
        torch.maximum(first[..., :2], second[..., :2]),
        torch.minimum(first[..., 2:], second[..., 2:]),
    )
    total = (first[..., 2:] - first[..., :2] + offset).prod(dim=-1)
    if mode == 0:
        other = (second[..., 2:] - second[..., :2] + offset).prod(dim=-1)
        total = total + other - inter
    ious.copy_(inter / total)


# Rotated boxes ---------------------------------------------------------------

# Number of pairs whose overlaps are computed at a time.
_PAIRS = 2**22


def _rotated_ious(first: Tensor, second: Tensor) -> Tensor:
    """Return the (N, M) overlaps of (x, y, w, h, radians) boxes.

    mmcv counts angles clockwise in radians, torchvision counter-clockwise in
    degrees.
    """
    scale = first.new_tensor([1, 1, 1, 1, -180 / torch.pi])
    return torch.ops.torchvision.box_iou_rotated(
        (first[:, :5] * scale).contiguous(),
        (second[:, :5] * scale).contiguous(),
    )


def box_iou_rotated(
    boxes1: Tensor,
    boxes2: Tensor,
    ious: Tensor,
    mode_flag: int,
    aligned: bool,
) -> None:
    """Compute the overlaps of rotated boxes.

    Args:
        boxes1: (N, 5), centre, width, height and clockwise angle in radians.
        boxes2: (M, 5); (N, 5) if ``aligned``.
        ious: (N * M,), or (N,) if ``aligned``; filled.
        mode_flag: 0 intersection over union, 1 over the area of ``boxes1``.
        aligned: Compare the boxes of equal index only.
    """
    first, second = as_dtype_of(boxes1, boxes2)
    if aligned:
        step = 64
        result = [
            _rotated_ious(a, b).diagonal()
            for a, b in zip(first.split(step), second.split(step))
        ]
    else:
        step = max(_PAIRS // max(len(second), 1), 1)
        result = [_rotated_ious(part, second) for part in first.split(step)]
    if not ious.numel():
        return
    overlaps = torch.cat(result)
    if mode_flag == 1:
        area1 = first[:, 2] * first[:, 3]
        area2 = second[:, 2] * second[:, 3]
        if not aligned:
            area1, area2 = area1[:, None], area2[None]
        # IoU = I / (A1 + A2 - I), solved for I.
        inter = overlaps * (area1 + area2) / (1 + overlaps)
        overlaps = inter / area1
    ious.copy_(overlaps.reshape(ious.shape))


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Suppress rotated boxes that overlap a better one.

    Args:
        dets: (N, 5), as in :func:`box_iou_rotated`, or (N, 6) with a label.
        scores: (N,).
        order: (N,), indices from the best score to the worst.
        dets_sorted: ``dets`` in that order.
        labels: Not used; ``dets`` has the labels.
        iou_threshold: Overlap from which a box is suppressed.
        multi_label: Only boxes of one label suppress each other.

    Returns:
        (K,) indices of the kept boxes, best first.
    """
    boxes = at_least_float32(dets_sorted)
    alive = torch.ones(len(boxes), dtype=torch.bool)
    step = max(_PAIRS // max(len(boxes), 1), 1)
    for start in range(0, len(boxes), step):
        part = boxes[start : start + step]
        overlaps = _rotated_ious(part, boxes) >= iou_threshold
        if multi_label:
            overlaps &= part[:, None, 5] == boxes[None, :, 5]
        overlaps = overlaps.cpu()
        for i in range(len(part)):
            if alive[start + i]:
                later = start + i + 1
                alive[later:] &= ~overlaps[i, later:]
    return order[alive.to(order.device)]
