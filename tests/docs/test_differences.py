"""Check statements of docs/differences.md on the hosts and the release."""

import io

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from PIL import Image
from support.configs import load

pytestmark = pytest.mark.one_stack


@pytest.fixture(scope='module')
def page(root):
    """Return the page with its lines joined."""
    return ' '.join((root / 'docs/differences.md').read_text().split())


def test_release_cannot_run(page):
    """AdamW over SGD's settings, as in the release, has a momentum."""
    cfg = Config(dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9)))
    cfg.merge_from_dict(dict(optimizer=dict(type='AdamW', lr=1e-4)))
    settings = cfg.optimizer.to_dict()
    settings.pop('type')
    with pytest.raises(TypeError, match='momentum'):
        torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], **settings)
    for model in ('cascade_mask_rcnn', 'retinanet', 'mask_rcnn'):
        cfg = load(f'{model}_smt_s_3x')
        exempt = bool(cfg.optim_wrapper.get('paramwise_cfg'))
        assert exempt == (model == 'mask_rcnn')
    assert 'cannot run as published' in page and '`TypeError`' in page
    assert 'may the authors' in page
    assert 'UperNet: weight decay of norms | as Swin, which exempts' in page
    assert '`dw_conv` in the code of detection and of segmentation' in page
    assert 'ATSS has three inputs for four maps' in page
    assert 'only the files of Sparse R-CNN are complete' in page


@pytest.mark.parametrize(
    'name',
    [
        *('cascade_mask_rcnn_smt_s_3x', 'retinanet_smt_b_3x'),
        *('atss_smt_s_3x', 'upernet_smt_s_160k'),
    ],
)
def test_norms_can_be_exempted(page, name):
    """The option that the page gives applies to configs whose norms decay."""
    key, value = 'optim_wrapper.paramwise_cfg.norm_decay_mult', 0.0
    assert f'`--cfg-options {key}={value}`' in page
    cfg = load(name)
    assert not cfg.optim_wrapper.get('paramwise_cfg')
    cfg.merge_from_dict({key: value})
    assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0.0)


def test_exif(page, tmp_path):
    """mmcv rotates by EXIF, PIL does not, and one option makes them equal."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    stream = io.BytesIO()
    Image.new('RGB', (40, 30)).save(stream, 'JPEG', exif=exif)
    path = tmp_path / 'turned.jpg'
    path.write_bytes(stream.getvalue())
    step = load('smt_t_in1k').train_dataloader.dataset.pipeline[0]
    assert step.type == 'LoadImageFromFile'
    shapes = [
        LoadImageFromFile(**settings)(dict(img_path=str(path)))['img'].shape
        for settings in ({}, dict(color_type='color_ignore_orientation'))
    ]
    assert shapes == [(40, 30, 3), (30, 40, 3)]
    assert Image.open(path).size == (40, 30)
    assert "`color_type='color_ignore_orientation'`" in page


def test_noise_of_erasing(page):
    """Whole grey levels within 0 to 255; timm's normal noise has no bounds."""
    import mmpretrain.datasets  # registers the transforms

    steps = load('smt_t_in1k').train_dataloader.dataset.pipeline
    (settings,) = [s for s in steps if s.type == 'RandomErasing']
    assert mmpretrain and settings.fill_std
    settings = dict(settings, type='mmpretrain.RandomErasing', erase_prob=1.0)
    settings.pop('_scope_', None)
    erase = TRANSFORMS.build(settings)
    grey = np.full((300, 300, 3), 7, np.uint8)
    img = erase(dict(img=grey.copy()))['img']
    noise = img[(img != grey).any(-1)]
    assert noise.dtype == np.uint8 and len(noise) > 1000
    at_bounds = np.isin(noise, (0, 255)).mean()
    assert 0.02 < at_bounds < 0.05
    assert '3 % of the values' in page
