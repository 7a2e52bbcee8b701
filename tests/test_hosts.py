"""SMT in the hosts' stock configs, with nothing of ours imported by hand."""

import pytest
from mmengine.registry import MODELS, init_default_scope

from mmsmt import SMT

# Of each host: a stock config, the settings that take another backbone's
# channels, and code that makes a batch.
CHANNELS = [64, 128, 256, 512]
STOCK = {
    'mmdet': (
        'retinanet/retinanet_r50_fpn_1x_coco.py',
        dict(neck=dict(in_channels=CHANNELS)),
        """
from mmdet.testing import demo_mm_inputs
data = demo_mm_inputs(2, [[3, 64, 64]] * 2)
""",
    ),
    'mmseg': (
        'upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py',
        dict(
            pretrained=None,  # ResNet's
            data_preprocessor=dict(size=(64, 64)),
            decode_head=dict(
                in_channels=CHANNELS, channels=32, norm_cfg=dict(type='BN')
            ),
            auxiliary_head=dict(
                in_channels=256, channels=32, norm_cfg=dict(type='BN')
            ),
        ),
        """
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
label = torch.randint(0, 19, (1, 64, 64))
data = dict(
    inputs=[torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)] * 2,
    data_samples=[SegDataSample(gt_sem_seg=PixelData(data=label))] * 2)
""",
    ),
    'mmpretrain': (
        'resnet/resnet50_8xb32_in1k.py',
        dict(head=dict(in_channels=512)),
        """
from mmpretrain.structures import DataSample
data = dict(
    inputs=torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8),
    data_samples=[DataSample().set_gt_label(i) for i in range(2)])
""",
    ),
}


@pytest.mark.parametrize('host', STOCK)
def test_stock_config_trains_a_step(python, host):
    config, changes, batch = STOCK[host]
    out = '(3, )' if host == 'mmpretrain' else '(0, 1, 2, 3)'
    code = f"""
import torch
from importlib.util import find_spec
from pathlib import Path
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
path = Path(find_spec('{host}').origin).parent / '.mim/configs/{config}'
cfg = Config.fromfile(path)
cfg.model.backbone = dict(
    type='mmsmt.SMT', arch='tiny', out_indices={out})
cfg.merge_from_dict(dict(model={changes}))
init_default_scope('{host}')
model = MODELS.build(cfg.model)
model.init_weights()
{batch}
optim = build_optim_wrapper(model, dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)))
before = model.backbone.block1[0].attn.v.weight.clone()
loss = model.train().train_step(data, optim)['loss']
assert loss.isfinite()
assert not torch.equal(before, model.backbone.block1[0].attn.v.weight)
print(type(model.backbone).__module__, 'trained')
"""
    assert 'mmsmt.models.smt trained' in python('-c', code).stdout


def test_bare_name_in_every_scope():
    for host in STOCK:
        init_default_scope(host)
        model = MODELS.build(dict(type='SMT', arch='tiny', out_indices=(0,)))
        assert type(model) is SMT


def test_settings_of_a_resnet_config():
    """`norm_cfg`, `frozen_stages` and `norm_eval` as detection configs have
    them."""
    model = MODELS.build(
        dict(
            type='mmsmt.SMT',
            arch='tiny',
            frozen_stages=1,
            norm_eval=True,
            norm_cfg=dict(type='BN', requires_grad=False),
        )
    )
    norm = model.train().block2[0].attn.saa.bn
    assert not norm.training
    assert not any(p.requires_grad for p in norm.parameters())
