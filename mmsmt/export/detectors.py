"""Detectors from maps to boxes, in tensors of fixed shape.

The hosts' ``predict`` leaves the graph: it branches on the number of boxes
and makes objects in Python. These compute the same numbers with padding, so
that an exported file holds for every image and every batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from mmsmt.runtimes.description import ExportError

from .suppression import suppress

Maps = Sequence[Tensor]


class Found:
    """Boxes of a batch, padded to one number.

    Args:
        boxes (Tensor): (B, N, 4) corners in pixels.
        scores (Tensor): (B, N), 0 for padding.
        labels (Tensor): (B, N) int64, -1 for padding.
    """

    def __init__(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> None:
        self.boxes, self.scores, self.labels = boxes, scores, labels


def find_objects(model: Any, maps: Maps, limit: Tensor) -> tuple[Tensor, ...]:
    """Find objects as an mmdet detector's ``predict`` does.

    Args:
        model (Any): A detector of mmdet.
        maps (Sequence[Tensor]): What its ``extract_feat`` returns.
        limit (Tensor): (2,) width and height of the images, before padding.

    Returns:
        tuple[Tensor, ...]: (B, N, 4) boxes, (B, N) scores, (B, N) labels, and
        for instance segmentation (B, N, h, w) probabilities inside each box.
        Padding has the score 0 and the label -1.

    Raises:
        ExportError: The detector is of another kind.
    """
    roi_head = getattr(model, 'roi_head', None)
    head = getattr(model, 'bbox_head', None)
    kinds = [type(x).__name__ for x in (model, roi_head, head)]
    if kinds[0] == 'DINO':
        found = _decode_queries(model, maps, limit)
    elif kinds[1] == 'SparseRoIHead':
        found = _decode_sparse(model, maps, limit)
    elif kinds[1] in ('StandardRoIHead', 'CascadeRoIHead'):
        found = _decode_regions(model, maps, limit)
    elif kinds[2] in ('RetinaHead', 'ATSSHead'):
        found = _decode_dense(head, maps, limit)
    else:
        raise ExportError(
            f'{kinds[0]} with {kinds[1 if roi_head else 2]} is not exported: '
            'RetinaNet, ATSS, Mask, Cascade and Sparse R-CNN and DINO are.'
        )
    if not model.with_mask:
        return found.boxes, found.scores, found.labels
    return (
        *(found.boxes, found.scores, found.labels),
        _decode_masks(roi_head, maps, found),
    )


def _threshold_of(cfg: Any) -> float:
    """Return the overlap of a test setting's suppression."""
    nms = cfg.get('nms') or {}
    if nms.get('type', 'nms') != 'nms' or nms.get('class_agnostic'):
        raise ExportError(
            f'The suppression {dict(nms)} is not exported, only type="nms" by '
            'class.'
        )
    return float(nms.get('iou_threshold', nms.get('iou_thr', 0.5)))


def _clip(boxes: Tensor, limit: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), limit.repeat(2))


def _take(values: Tensor, indices: Tensor) -> Tensor:
    """Gather (B, N, ...) by (B, K)."""
    shape = *indices.shape, *values.shape[2:]
    for _ in values.shape[2:]:
        indices = indices[..., None]
    return values.gather(1, indices.expand(shape))


def _smaller(number: int, size: Any) -> Any:
    """Return the smaller one, without a branch on a size that may change."""
    if torch.jit.is_tracing():
        return torch.minimum(torch.as_tensor(size), torch.as_tensor(number))
    return min(number, size)


def _best(found: Found, number: int) -> Found:
    """Keep the best of each image; mark what is padding."""
    number = _smaller(number, found.scores.shape[1])
    scores, indices = found.scores.topk(number, dim=1)
    boxes = _take(found.boxes, indices)
    labels = _take(found.labels, indices)
    real = scores > 0
    return Found(
        boxes * real[..., None],
        scores,
        torch.where(real, labels, torch.full_like(labels, -1)),
    )


def _decode(
    coder: Any, priors: Tensor, deltas: Tensor, limit: Tensor
) -> Tensor:
    """Decode priors and deltas of one shape, (B, ..., 4)."""
    # Without max_shape it does not clip: that takes numbers only.
    boxes = coder.decode(priors.reshape(-1, 4), deltas.reshape(-1, 4))
    boxes = boxes.reshape(deltas.shape)
    return _clip(boxes, limit) if coder.clip_border else boxes


def _decode_dense(
    head: Any, maps: Maps, limit: Tensor, by_level: bool = False
) -> Found:
    """Follow ``BaseDenseHead.predict_by_feat`` with anchors.

    With ``by_level``, labels are levels, and boxes of a level suppress each
    other: that is ``RPNHead``.
    """
    outs = head(maps)
    priors = head.prior_generator.grid_priors(
        [x.shape[-2:] for x in outs[0]], device=maps[0].device
    )
    cfg, classes = head.test_cfg, head.cls_out_channels
    factors = outs[2] if len(outs) > 2 else [None] * len(outs[0])
    boxes, scores, labels = [], [], []
    for level, (score, delta, factor, prior) in enumerate(
        zip(outs[0], outs[1], factors, priors, strict=True)
    ):
        batch = score.shape[0]
        score = score.permute(0, 2, 3, 1).reshape(batch, -1, classes)
        delta = delta.permute(0, 2, 3, 1).reshape(batch, -1, 4)
        score = (
            score.sigmoid()
            if head.use_sigmoid_cls
            else score.softmax(-1)[..., :-1]
        )
        names = score.shape[-1]
        score = score.flatten(1)
        score, index = score.topk(
            _smaller(cfg.get('nms_pre', 1000), score.shape[1]), dim=1
        )
        score = score * (score > cfg.get('score_thr', 0))
        place = index // names
        if factor is not None:
            factor = factor.permute(0, 2, 3, 1).reshape(batch, -1).sigmoid()
            score = score * factor.gather(1, place)
        prior = prior[place]
        delta = _take(delta, place)
        boxes.append(_decode(head.bbox_coder, prior, delta, limit))
        scores.append(score)
        label = torch.full_like(index, level) if by_level else index % names
        labels.append(label)
    found = Found(
        torch.cat(boxes, 1),
        torch.cat(scores, 1),
        torch.cat(labels, 1),
    )
    return _suppressed(found, cfg, limit)


def _suppressed(found: Found, cfg: Any, limit: Tensor) -> Found:
    size = found.boxes[..., 2:] - found.boxes[..., :2]
    scores = found.scores
    least = cfg.get('min_bbox_size', -1)
    if least >= 0:
        scores = scores * (size > least).all(-1)
    found.scores = suppress(
        found.boxes, scores, found.labels, _threshold_of(cfg), limit
    )
    return _best(found, cfg.get('max_per_img', 100))


def _stages(module: Any) -> list:
    """Return a cascade's modules, or the only one."""
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def _regions(boxes: Tensor) -> Tensor:
    """Return (B * N, 5) regions: number of the image, and box."""
    batch = torch.arange(boxes.shape[0], device=boxes.device)
    batch = batch.to(boxes.dtype).view(-1, 1, 1).expand_as(boxes[..., :1])
    return torch.cat([batch, boxes], -1).reshape(-1, 5)


def _extract(extractor: Any, maps: Maps, regions: Tensor) -> Tensor:
    """Follow ``SingleRoIExtractor``: (R, C, h, w) features."""
    kinds = [type(extractor), *map(type, extractor.roi_layers)]
    if {kind.__name__ for kind in kinds} != {'SingleRoIExtractor', 'RoIAlign'}:
        raise ExportError(
            'Features of regions are exported by SingleRoIExtractor with '
            f'RoIAlign only, not by {kinds[0].__name__}.'
        )
    maps = maps[: extractor.num_inputs]
    levels = extractor.map_roi_levels(regions, len(maps))
    parts, places = [], []
    for level, (layer, x) in enumerate(
        zip(extractor.roi_layers, maps, strict=True)
    ):
        place = (levels == level).nonzero()[:, 0]
        parts.append(
            torchvision.ops.roi_align(
                x,
                regions[place],
                layer.output_size,
                layer.spatial_scale,
                layer.sampling_ratio,
                layer.aligned,
            )
        )
        places.append(place)
    order = torch.cat(places)
    # Where each region is among the parts.
    inverse = torch.zeros_like(levels).scatter(
        0, order, torch.arange(order.shape[0], device=order.device)
    )
    return torch.cat(parts)[inverse]


def _decode_regions(model: Any, maps: Maps, limit: Tensor) -> Found:
    """Follow ``StandardRoIHead`` and ``CascadeRoIHead``."""
    roi_head = model.roi_head
    if type(model.rpn_head).__name__ != 'RPNHead' or roi_head.with_shared_head:
        raise ExportError(
            f'{type(model.rpn_head).__name__} and shared heads of regions are '
            'not exported, RPNHead alone is.'
        )
    proposals = _decode_dense(model.rpn_head, maps, limit, by_level=True)
    heads = _stages(roi_head.bbox_head)
    extractors = _stages(roi_head.bbox_roi_extractor)
    boxes, logits = proposals.boxes, []
    batch, number = boxes.shape[:2]
    for stage, (head, extractor) in enumerate(zip(heads, extractors)):
        if head.custom_activation:
            raise ExportError(
                f'{type(head.loss_cls).__name__} is not exported.'
            )
        features = _extract(extractor, maps, _regions(boxes))
        score, delta = head(features)
        logits.append(score)
        if stage + 1 < len(heads):
            if not head.reg_class_agnostic:
                label = score[:, :-1].argmax(1)
                delta = delta.view(-1, head.num_classes, 4)
                delta = _take(delta, label[:, None])[:, 0]
            delta = delta.view(batch, number, 4)
            boxes = _decode(head.bbox_coder, boxes, delta, limit)
    cfg = roi_head.test_cfg
    scores = torch.stack(logits).mean(0).softmax(-1)[:, :-1]
    classes = heads[-1].num_classes
    scores = scores.reshape(batch, number * classes)
    # Proposals that are padding are no candidates.
    real = proposals.scores[..., None].expand(batch, number, classes)
    scores = scores * (scores > cfg.score_thr) * (real.flatten(1) > 0)
    if heads[-1].reg_class_agnostic:
        delta = delta.view(batch, number, 4)
        boxes = _decode(heads[-1].bbox_coder, boxes, delta, limit)
        boxes = boxes[:, :, None].expand(batch, number, classes, 4)
    else:
        delta = delta.view(batch, number * classes, 4)
        prior = boxes[:, :, None].expand(batch, number, classes, 4)
        boxes = _decode(heads[-1].bbox_coder, prior, delta, limit)
    boxes = boxes.reshape(batch, number * classes, 4)
    labels = torch.arange(classes, device=boxes.device)
    labels = labels.expand(batch, number, classes).reshape(scores.shape)
    return _suppressed(Found(boxes, scores, labels), cfg, limit)


def _decode_masks(roi_head: Any, maps: Maps, found: Found) -> Tensor:
    """Follow ``predict_mask``: (B, N, h, w) probabilities inside each box."""
    regions = _regions(found.boxes)
    results = []
    for head, extractor in zip(
        _stages(roi_head.mask_head), _stages(roi_head.mask_roi_extractor)
    ):
        mask = head(_extract(extractor, maps, regions))
        if not head.class_agnostic:
            label = found.labels.clamp(min=0).flatten()
            mask = _take(mask, label[:, None])
        results.append(mask[:, 0].sigmoid())
    mask = torch.stack(results).mean(0)
    return mask.view(*found.labels.shape, *mask.shape[-2:])


def _decode_sparse(model: Any, maps: Maps, limit: Tensor) -> Found:
    """Follow ``SparseRoIHead``: learned proposals, no suppression."""
    from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

    start, roi_head = model.rpn_head, model.roi_head
    if roi_head.with_mask:
        raise ExportError('Masks of SparseRoIHead are not exported.')
    batch = maps[0].shape[0]
    boxes = bbox_cxcywh_to_xyxy(start.init_proposal_bboxes.weight)
    boxes = (boxes * limit.repeat(2)).expand(batch, -1, 4)
    features = start.init_proposal_features.weight
    features = features.expand(batch, *features.shape)
    for head, extractor in zip(
        roi_head.bbox_head, roi_head.bbox_roi_extractor
    ):
        region = _extract(extractor, maps, _regions(boxes))
        score, delta, features, _ = head(region, features)
        boxes = _decode(head.bbox_coder, boxes, delta, limit)
    if not head.loss_cls.use_sigmoid:
        raise ExportError('SparseRoIHead is exported with a sigmoid only.')
    return _choose(score.sigmoid(), boxes, roi_head.test_cfg.max_per_img)


def _choose(scores: Tensor, boxes: Tensor, number: int) -> Found:
    """Keep the best pairs of (B, N, C) scores and (B, N, 4) boxes."""
    classes = scores.shape[-1]
    scores = scores.flatten(1)
    scores, index = scores.topk(_smaller(number, scores.shape[1]), dim=1)
    return Found(_take(boxes, index // classes), scores, index % classes)


def _decode_queries(model: Any, maps: Maps, limit: Tensor) -> Found:
    """Follow ``DINO``: queries of a transformer, no suppression."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import bbox_cxcywh_to_xyxy

    sample = DetDataSample(
        metainfo=dict(batch_input_shape=(1, 1), img_shape=(1, 1))
    )  # equal ones: there is no padding
    inputs = model.forward_transformer(maps, [sample] * maps[0].shape[0])
    head = model.bbox_head
    if not head.loss_cls.use_sigmoid:
        raise ExportError(f'{type(head).__name__} needs a sigmoid.')
    scores, boxes = head(**inputs)
    boxes = _clip(bbox_cxcywh_to_xyxy(boxes[-1]) * limit.repeat(2), limit)
    number = model.test_cfg.get('max_per_img', scores.shape[-2])
    return _choose(scores[-1].sigmoid(), boxes, number)
