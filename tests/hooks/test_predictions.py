"""What is stored for the report of a run."""

import torch

from mmsmt.hooks.predictions import _find_numbers


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
