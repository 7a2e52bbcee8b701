"""Test images become those of an exported file of one size."""

from support.configs import load

from mmsmt.runtimes.model import fit_pipelines


def test_a_classifier():
    """The crop is of the size, and the image around it in proportion."""
    cfg = load('smt_t_in1k')
    fit_pipelines(cfg, (320, 256))
    steps = {s.type: s for s in cfg.test_dataloader.dataset.pipeline}
    assert steps['CenterCrop'].crop_size == (256, 320)
    assert steps['ResizeEdge'].scale == round(256 * 320 / 224)
