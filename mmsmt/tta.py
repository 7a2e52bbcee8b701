"""Test-time augmentation of detectors, boxes only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample


class BoxTTAModel(DetTTAModel):
    """Test-time augmentation of boxes, for detectors that predict masks too.

    mmdet cannot merge masks and rejects such models, and its cascaded heads
    fail on a mirrored image; this class omits the masks and merges the boxes.
    Arguments are those of mmdet's ``DetTTAModel``.
    """

    def test_step(self, data: Any) -> list[DetDataSample]:
        """Predict from several views of each image, without masks."""
        with without_mask_head(self.module):
            return super().test_step(data)


@contextmanager
def without_mask_head(model: Any) -> Iterator[None]:
    """Hide a detector's mask head; it is back afterwards."""
    roi_head = getattr(model, 'roi_head', None)
    mask_head = getattr(roi_head, 'mask_head', None)
    if mask_head is None:
        yield
        return
    roi_head.mask_head = None
    try:
        yield
    finally:
        roi_head.mask_head = mask_head
