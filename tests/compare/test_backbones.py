"""Another backbone in any model, with its channels where they belong."""

import pytest
from mmengine.registry import MODELS, init_default_scope
from support.configs import load

from mmsmt.compare.backbones import (
    BACKBONES,
    CompareError,
    exchange_backbone,
    find_backbones,
    find_channels,
    forget_weights,
)

RESNET = dict(type='mmdet.ResNet', depth=18)


@pytest.mark.parametrize(
    'name, expected',
    [
        (
            'mask_rcnn_smt_t_1x',
            {'neck.in_channels': [64, 128, 256, 512]},
        ),
        ('dino_smt_s_1x', {'neck.in_channels': [128, 256, 512]}),
        (
            'upernet_smt_t_160k',
            {
                'decode_head.in_channels': [64, 128, 256, 512],
                'auxiliary_head.in_channels': 256,
            },
        ),
        ('smt_t_in1k', {'head.in_channels': 512}),
    ],
)
def test_exchange(name, expected):
    """PVTv2's third stage has other channels than SMT's: 320."""
    cfg = load(name)
    if name == 'smt_t_in1k':
        cfg.custom_imports = None  # as in a config of one's own
    before = cfg.model.to_dict()
    peer = dict(BACKBONES['pvtv2-b2'], num_layers=[1, 1, 1, 1])
    exchange_backbone(cfg, peer)
    backbone = cfg.model.backbone
    assert backbone.type == 'mmdet.PyramidVisionTransformerV2'
    assert 'arch' not in backbone and 'init_cfg' not in backbone
    old = before.pop('backbone')
    assert backbone.out_indices == old.get('out_indices', (0, 1, 2, 3))
    assert backbone.drop_path_rate == old['drop_path_rate']
    got = cfg.model.to_dict()
    got.pop('backbone')
    for key, value in expected.items():
        part, leaf = key.split('.')
        assert before[part].pop(leaf) == value
        changed = got[part].pop(leaf)
        assert str(changed) == str(value).replace('256', '320')
    assert got == before
    assert 'mmdet.models' in cfg.custom_imports.imports
    init_default_scope(cfg.default_scope)
    MODELS.build(cfg.model)


def test_names(tmp_path):
    """Find names in the list or in a file, each once."""
    file = tmp_path / 'add.py'
    file.write_text(f'backbones = dict(mine={RESNET!r})')
    found = find_backbones(['smt-t', 'mine'], str(file))
    assert found == {'smt-t': BACKBONES['smt-t'], 'mine': RESNET}
    with pytest.raises(CompareError, match="'mine': choose among smt-t"):
        find_backbones(['mine'])
    with pytest.raises(CompareError, match='named twice'):
        find_backbones(['smt-t', 'smt-t'])
    file.write_text('backbone = 1')
    with pytest.raises(CompareError, match='no dict of backbones'):
        find_backbones(['mine'], str(file))


def test_all_names_can_be_built():
    """Four maps each, at 64 x 64."""
    init_default_scope('mmdet')
    import mmdet.models
    import mmpretrain.models

    assert mmdet.models and mmpretrain.models
    for name, backbone in BACKBONES.items():
        if name.endswith(('-b', '-s')):
            continue  # larger ones of the same kinds
        stages = dict(backbone, out_indices=(0, 1, 2, 3))
        assert len(find_channels(stages)) == 4, name


def test_backbones_that_do_not_fit():
    cfg = load('mask_rcnn_smt_t_1x')
    with pytest.raises(CompareError, match='cannot be used: .*depth'):
        exchange_backbone(cfg, dict(RESNET, depth=17))
    cfg = load('mask_rcnn_smt_t_1x')
    cfg.model.neck.in_channels = [1, 2, 3, 4]
    with pytest.raises(CompareError, match='No part of the MaskRCNN takes'):
        exchange_backbone(cfg, RESNET)


def test_stages_are_those_of_the_config():
    """Also ConvNeXt's, and rates of stochastic depth, also 0."""
    init_default_scope('mmdet')
    for name in ('convnext-t', 'swin-t'):
        cfg = load('dino_smt_s_1x')
        exchange_backbone(cfg, BACKBONES[name])
        assert tuple(cfg.model.backbone.out_indices) == (1, 2, 3)
        assert cfg.model.neck.in_channels == [192, 384, 768]
    cfg = load('mask_rcnn_smt_t_1x')
    cfg.model.backbone.drop_path_rate = 0.0
    exchange_backbone(cfg, dict(type='mmdet.SwinTransformer'))
    assert cfg.model.backbone.drop_path_rate == 0.0
    with pytest.raises(CompareError, match='returns 4 maps, .* 2: give it'):
        exchange_backbone(
            load('mask_rcnn_smt_t_1x'),
            dict(type='mmdet.ResNet', depth=18, out_indices=(2, 3)),
        )


def test_from_scratch():
    """No weights, of the model or a part of it."""
    cfg = load('mask_rcnn_smt_t_1x')
    cfg.load_from = 'detector.pth'
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='a.pth')
    cfg.model.neck.init_cfg = dict(type='Pretrained', checkpoint='b.pth')
    head = cfg.model.roi_head.bbox_head
    head.init_cfg = dict(type='Normal', layer='Linear')
    removed = sorted(forget_weights(cfg))
    assert removed == [
        "load_from='detector.pth'",
        "model.backbone.init_cfg.checkpoint='a.pth'",
        "model.neck.init_cfg.checkpoint='b.pth'",
    ]
    assert cfg.load_from is None and cfg.model.neck.init_cfg is None
    assert head.init_cfg.type == 'Normal'
