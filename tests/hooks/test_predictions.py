"""Store what the report of a run needs."""

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmsmt.hooks.predictions import _count_confusions, _find_numbers


def test_metrics_that_are_no_numbers():
    """Matrices and lists, as mmpretrain's metrics may give, are left out."""
    metrics = {
        'accuracy/top1': torch.tensor(81.5),
        'mAP': 0.5,
        'precision_classwise': [1.0, 2.0],
        'confusion_matrix/result': torch.eye(2),
        'note': 'none',
    }
    assert _find_numbers(metrics) == {'accuracy/top1': 81.5, 'mAP': 0.5}


def test_the_metric_s_ignored_value():
    truth = torch.tensor([[0, 1, 1, 2]])
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=truth[None]),
        pred_sem_seg=PixelData(data=torch.tensor([[[2, 1, 1, 2]]])),
    )
    assert _count_confusions(sample, 0)['iou'] == 1
    assert _count_confusions(sample)['iou'] < 1
