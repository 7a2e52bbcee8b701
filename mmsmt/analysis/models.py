"""Build the models in the paper's tables, without weights."""

import importlib.util
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmsmt.analysis.paper import Part, Row
from mmsmt.paths import configs_dir

# Backbones of rows that a host can build: a config of the host, and the
# settings in which the row differs.
_DETECTION: dict[str, tuple[str, dict]] = {
    'ResNet50': ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', {}),
    'ResNet101': ('mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py', {}),
    'Swin-T': ('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', {}),
    'Swin-S': (
        'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
        dict(depths=[2, 2, 18, 2]),
    ),
    'Swin-B': (
        'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py',
        dict(embed_dims=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32]),
    ),
    'PVTv2-B2': ('mmdet::pvt/retinanet_pvtv2-b2_fpn_1x_coco.py', {}),
    'PVTv2-B4': ('mmdet::pvt/retinanet_pvtv2-b4_fpn_1x_coco.py', {}),
    'Twins-SVT-S': (
        'mmpretrain::twins/twins-svt-small_8xb128_in1k.py',
        dict(out_indices=(0, 1, 2, 3), norm_after_stage=True),
    ),
    'Twins-SVT-B': (
        'mmpretrain::twins/twins-svt-base_8xb128_in1k.py',
        dict(out_indices=(0, 1, 2, 3), norm_after_stage=True),
    ),
    'ConvNeXt': (
        'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py',
        dict(out_indices=(0, 1, 2, 3), gap_before_final_norm=False),
    ),
}
_DETECTION['R-50'] = _DETECTION['ResNet50']

_UPERNET = '_upernet_8xb2-160k_ade20k-512x512.py'
_SEGMENTATION: dict[str, tuple[str, dict]] = {
    'ResNet-101': (
        'mmseg::upernet/upernet_r101_4xb4-160k_ade20k-512x512.py',
        {},
    ),
    'Swin-T': (
        f'mmseg::swin/swin-tiny-patch4-window7-in1k-pre{_UPERNET}',
        {},
    ),
    'Swin-S': (
        f'mmseg::swin/swin-small-patch4-window7-in1k-pre{_UPERNET}',
        {},
    ),
    'Swin-B': (
        f'mmseg::swin/swin-base-patch4-window7-in1k-pre{_UPERNET}',
        {},
    ),
    'ConvNeXt-S': (
        'mmpretrain::convnext/convnext-small_32xb128_in1k.py',
        dict(out_indices=(0, 1, 2, 3), gap_before_final_norm=False),
    ),
    'Twins-SVT-L': (
        'mmseg::twins/twins_svt-l_uperhead_8xb2-160k_ade20k-512x512.py',
        {},
    ),
}

# Classifiers are mmpretrain's configs, unchanged.
_CLASSIFICATION: dict[tuple[str, int], str] = {
    ('EffNet-B3', 300): 'efficientnet/efficientnet-b3_8xb32_in1k.py',
    ('EffNet-B4', 380): 'efficientnet/efficientnet-b4_8xb32_in1k.py',
    ('EffNet-B5', 456): 'efficientnet/efficientnet-b5_8xb32_in1k.py',
    ('EffNet-B6', 528): 'efficientnet/efficientnet-b6_8xb32_in1k.py',
    ('EfficientFormer-L1', 224): (
        'efficientformer/efficientformer-l1_8xb128_in1k.py'
    ),
    ('DeiT-S', 224): 'deit/deit-small_4xb256_in1k.py',
    ('Swin-T', 224): 'swin_transformer/swin-tiny_16xb64_in1k.py',
    ('Swin-S', 224): 'swin_transformer/swin-small_16xb64_in1k.py',
    ('Swin-B', 224): 'swin_transformer/swin-base_16xb64_in1k.py',
    ('Swin-Large', 224): 'swin_transformer/swin-large_16xb64_in1k.py',
    ('Swin-Large', 384): 'swin_transformer/swin-large_16xb64_in1k-384px.py',
    ('SwinV2-S/8', 256): (
        'swin_transformer_v2/swinv2-small-w8_16xb64_in1k-256px.py'
    ),
    ('ConvNeXt-T', 224): 'convnext/convnext-tiny_32xb128_in1k.py',
    ('ConvNeXt-B', 224): 'convnext/convnext-base_32xb128_in1k.py',
    ('HorNet-B', 224): 'hornet/hornet-base_8xb64_in1k.py',
    ('PoolFormer-m36', 224): 'poolformer/poolformer-m36_32xb128_in1k.py',
    ('ViT-B/16', 384): 'vision_transformer/vit-base-p16_64xb64_in1k-384px.py',
    ('ViT-L/16', 384): 'vision_transformer/vit-large-p16_64xb64_in1k-384px.py',
    ('Twins-S', 224): 'twins/twins-svt-small_8xb128_in1k.py',
    ('Twins-B', 224): 'twins/twins-svt-base_8xb128_in1k.py',
}

_NOT_AS_PRINTED: dict[tuple[str, str], str] = {
    ('mmpretrain', 'HorNet-T'): 'has FFTs, which are not counted',
    ('mmseg', 'DeiT-S'): 'mmseg has other necks for it',
}


class NotMeasured(Exception):
    """Error for a model that cannot be built, with the reason."""


def build_smt(part: Part, row: Row, arch: str | None = None) -> nn.Module:
    """Build an SMT row's model from our config.

    Args:
        part (Part): The part of a table that holds the row.
        row (Row): A row of SMT.
        arch (str, optional): Arch that replaces the config's.

    Raises:
        NotMeasured: The config is missing, or its host is not installed.
    """
    if row.backbone == 'SMT-M':
        raise NotMeasured('no weights; Table 13 gives 7.85 M')
    cfg = load_config(part.configs(row)[0], part.host)
    if arch:
        cfg.model.backbone.arch = arch
    return _build(cfg.model, part.host)


def build_baseline(part: Part, row: Row) -> nn.Module:
    """Build the model of a row with another backbone.

    Detectors and segmenters are built from our SMT config, with the backbone
    replaced; classifiers are mmpretrain's.

    Raises:
        NotMeasured: No host has the backbone, or the host is not installed.
    """
    if (part.host, row.backbone) in _NOT_AS_PRINTED:
        raise NotMeasured(_NOT_AS_PRINTED[part.host, row.backbone])
    if part.host == 'mmpretrain':
        name = _CLASSIFICATION.get((row.backbone, row.size[0]))
        if name is None:
            raise NotMeasured('not in mmpretrain')
        return _build(_host_config(f'mmpretrain::{name}').model, part.host)
    recipes = _DETECTION if part.host == 'mmdet' else _SEGMENTATION
    if row.backbone not in recipes:
        raise NotMeasured('not in the hosts')
    name, changes = recipes[row.backbone]
    smt = next(r for r in part.rows if r.smt)
    model = load_config(part.configs(smt)[0], part.host).model
    backbone = _host_config(name).model.backbone
    backbone.update(changes)
    host = name.split('::')[0]
    if host != part.host:
        backbone.type = f'{host}.{backbone.type}'
    if 'out_indices' in model.backbone:
        # DINO uses three stages; the others use all four, the default of
        # these backbones.
        backbone.out_indices = model.backbone.out_indices
    model.backbone = backbone
    probe = _build(backbone, part.host).to('meta')
    maps = probe(torch.empty(2, 3, 64, 64, device='meta'))
    channels = [x.shape[1] for x in maps]
    if part.host == 'mmdet':
        model.neck.in_channels = channels
    else:
        model.decode_head.in_channels = channels
        model.auxiliary_head.in_channels = channels[2]
    return _build(model, part.host)


def load_config(name: str, host: str) -> Config:
    """Read one of our configs.

    Args:
        name (str): Name of the file, without ``.py``.
        host (str): The package whose configs it inherits.

    Raises:
        NotMeasured: The config is missing, or its host is not installed.
    """
    path = configs_dir() / f'{name}.py'
    if not path.is_file():
        raise NotMeasured('no config')
    _home(host)
    return Config.fromfile(path)


def _home(host: str) -> Path:
    spec = importlib.util.find_spec(host)
    if spec is None or not spec.submodule_search_locations:
        raise NotMeasured(f'needs {host}')
    return Path(spec.submodule_search_locations[0])


def _host_config(name: str) -> Config:
    host, _, name = name.partition('::')
    return Config.fromfile(_home(host) / '.mim' / 'configs' / name)


def _build(cfg: ConfigDict, scope: str) -> nn.Module:
    """Build a model without initialization; no weights are fetched."""
    init_default_scope(scope)
    return MODELS.build(cfg)
