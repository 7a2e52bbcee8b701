"""Test-time augmentation of detectors, boxes only."""

from mmdet.models.test_time_augs import DetTTAModel
from mmdet.structures import DetDataSample


class BoxTTAModel(DetTTAModel):
    """mmdet's TTA for detectors that predict masks too.

    mmdet cannot merge masks and refuses such models; this one leaves the
    masks out and merges the boxes.
    """

    def merge_preds(
        self, data_samples_list: list[list[DetDataSample]]
    ) -> list[DetDataSample]:
        """Merge the predictions of one image's views, without masks."""
        for samples in data_samples_list:
            for sample in samples:
                sample.pred_instances.pop('masks', None)
        return super().merge_preds(data_samples_list)
