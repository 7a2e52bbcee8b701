"""Test-time augmentation of detectors, boxes only."""

from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample


class BoxTTAModel(DetTTAModel):
    """mmdet's TTA for detectors that predict masks too.

    mmdet cannot merge masks and refuses such models, and its cascaded heads
    fail on a mirrored image; here masks are left out and the boxes merged.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        head = getattr(self.module, 'roi_head', None)
        if head is not None and head.with_mask:
            # Their weights stay, so that a checkpoint still fits.
            kind = type(head)
            head.__class__ = type(kind.__name__, (kind,), {'with_mask': False})

    def merge_preds(
        self, data_samples_list: list[list[DetDataSample]]
    ) -> list[DetDataSample]:
        """Merge the predictions of one image's views, without masks."""
        for samples in data_samples_list:
            for sample in samples:
                sample.pred_instances.pop('masks', None)
        return super().merge_preds(data_samples_list)
