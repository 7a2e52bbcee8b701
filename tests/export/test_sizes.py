"""Test images become those of an exported file of one size."""

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS, init_default_scope
from support.configs import load

from mmsmt.runtimes.model import fit_pipelines


def test_a_classifier():
    """The crop is of the size, and the image around it in proportion."""
    cfg = load('smt_t_in1k')
    fit_pipelines(cfg, (320, 256))
    steps = {s.type: s for s in cfg.test_dataloader.dataset.pipeline}
    assert steps['CenterCrop'].crop_size == (256, 320)
    assert steps['ResizeEdge'].scale == round(256 * 320 / 224)


@pytest.mark.parametrize('shape', [(48, 64), (64, 48), (30, 200), (900, 7)])
def test_detectors_take_upright_images(shape):
    """They are fitted into a wide size, and stay as before in proportion."""
    cfg = load('atss_smt_s_3x')
    fit_pipelines(cfg, (64, 96))
    init_default_scope('mmdet')
    steps = [
        TRANSFORMS.build(step)
        for step in cfg.test_dataloader.dataset.pipeline
        if step.type in ('mmsmt.ResizeInto', 'Pad')
    ]
    assert len(steps) == 2
    results = dict(img=np.ones((*shape, 3), np.uint8))
    for step in steps:
        results = step(results)
    assert results['img'].shape == (64, 96, 3)
    factor = min(64 / shape[0], 96 / shape[1])
    rows = int(results['img'][:, 0, 0].sum())
    columns = int(results['img'][0, :, 0].sum())
    assert abs(rows - shape[0] * factor) <= 0.5
    assert abs(columns - max(1, shape[1] * factor)) <= 0.5
