"""Models that the benchmark compares."""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.config import ConfigDict
from mmengine.model.weight_init import trunc_normal_
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmsmt.errors import UserError
from mmsmt.launch.config import load_config
from mmsmt.models import SMT
from mmsmt.models.arch import Arch
from mmsmt.paths import configs_dir

PLAIN = Path(__file__).parents[2] / 'tests' / 'support' / 'plain_smt.py'
DETECTOR = 'mask_rcnn_smt_t_1x.py'
SMT_ROWS = ('mmsmt', 'mmsmt with_cp', 'mmsmt compiled', 'plain', 'release')
SWIN = dict(type='mmdet.SwinTransformer', drop_path_rate=0.0)
PEERS: dict[str, dict[str, Any]] = {
    'swin-t': dict(SWIN, depths=(2, 2, 6, 2)),
    'swin-s': dict(SWIN, depths=(2, 2, 18, 2)),
    'swin-b': dict(
        SWIN, depths=(2, 2, 18, 2), embed_dims=128, num_heads=(4, 8, 16, 32)
    ),
    'convnext-t': dict(
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
    ),
    'pvtv2-b2': dict(
        type='mmdet.PyramidVisionTransformerV2',
        num_layers=[3, 4, 6, 3],
        drop_path_rate=0.0,
    ),
    'resnet-50': dict(type='mmdet.ResNet', depth=50, norm_eval=False),
}
DEFAULT_ROWS = ('mmsmt', 'mmsmt with_cp', 'plain', *PEERS)


def find_host(row: str) -> str:
    """Return the package of a row of :data:`PEERS`."""
    return PEERS[row]['type'].split('.')[0]


def build_backbone(args: argparse.Namespace, row: str) -> nn.Module:
    """Build a row's backbone, which returns maps at strides 4, 8, 16, 32.

    Args:
        args (argparse.Namespace): Settings with ``arch``, and ``release``, the
            path of a clone of the authors' code.
        row (str): One of :data:`SMT_ROWS` and :data:`PEERS`. A runtime's is
            the model that it computes.
    """
    if row in ('plain', 'release') and args.arch not in SMT.ARCHS:
        raise SystemExit(f'--arch is one of {", ".join(SMT.ARCHS)}')
    if row == 'plain':
        plain = import_file(PLAIN, 'plain_smt')
        return plain.PlainSMT.of(SMT.ARCHS[args.arch])
    if row == 'release':
        return import_release(Path(args.release), SMT.ARCHS[args.arch])
    if row in PEERS:
        host = find_host(row)
        init_default_scope(host)
        importlib.import_module(f'{host}.models')
        return MODELS.build(PEERS[row])
    return SMT(args.arch, with_cp=row == 'mmsmt with_cp')


def import_file(path: Path, name: str) -> Any:
    """Import a module from a file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def import_release(clone: Path, arch: Arch) -> nn.Module:
    """Build the authors' backbone with the maps of all stages as output.

    Packages that their file imports but does not compute with are replaced by
    mocks, so that they need not be installed.
    """
    layers: Any = ModuleType('timm.models.layers')
    layers.DropPath, layers.trunc_normal_ = DropPath, trunc_normal_
    layers.to_2tuple = lambda x: x if isinstance(x, tuple) else (x, x)
    unused = (
        *('timm', 'timm.models', 'timm.models.registry', 'timm.data'),
        *('timm.models.vision_transformer', 'timm.data.constants'),
        *('timm.data.transforms', 'ptflops', 'thop', 'torchvision'),
    )
    fakes = {name: mock.MagicMock() for name in unused}
    with mock.patch.dict(sys.modules, {**fakes, layers.__name__: layers}):
        module = import_file(clone / 'models' / 'smt.py', 'released_smt')

    class Released(module.SMT):  # type: ignore[name-defined]
        """The authors' SMT with the maps of all stages as output."""

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outs = []
            for i in range(1, 5):
                x, h, w = getattr(self, f'patch_embed{i}')(x)
                for block in getattr(self, f'block{i}'):
                    x = block(x, h, w)
                x = getattr(self, f'norm{i}')(x)
                x = x.reshape(len(x), h, w, -1).permute(0, 3, 1, 2)
                outs.append(x.contiguous())
                x = outs[-1]
            return tuple(outs)

    return Released(
        qkv_bias=True,
        head_conv=arch.stem_kernel_size,
        embed_dims=list(arch.embed_dims),
        depths=list(arch.depths),
        mlp_ratios=list(arch.mlp_ratios),
    )


def read_detector(path: Path) -> ConfigDict:
    """Read the model of a detector's config.

    Raises:
        UserError: It cannot be read, or has no detector of four maps.
    """
    cfg = load_config(str(path))
    scope, model = cfg.get('default_scope') or 'mmdet', cfg.get('model')
    if scope != 'mmdet':
        raise UserError(f"'{path}' is of {scope}, not of mmdet.")
    if not isinstance(model, dict) or not isinstance(
        model.get('backbone'), dict
    ):
        raise UserError(f"'{path}' has no model with a backbone.")
    channels = find_neck(model).get('in_channels')
    if not isinstance(channels, (list, tuple)) or len(channels) != 4:
        raise UserError(
            f"'{path}' has no neck with in_channels of four maps, which the "
            'backbones of a benchmark return.'
        )
    if 'data_preprocessor' in cfg:  # as mmengine's runner does
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    for part in (model, model['backbone']):
        part.pop('init_cfg', None)
    init_default_scope(scope)
    return model


def find_neck(model: ConfigDict) -> ConfigDict:
    """Return the config of the neck that takes the backbone's maps."""
    neck = model.get('neck')
    first = neck[0] if isinstance(neck, list) and neck else neck
    return first if isinstance(first, dict) else ConfigDict()


def build_detector(backbone: nn.Module, config: str | None = None) -> Any:
    """Build a detector around a backbone, by default :data:`DETECTOR`."""
    cfg = read_detector(Path(config) if config else configs_dir() / DETECTOR)
    backbone.eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 64))
    find_neck(cfg).in_channels = [out.shape[1] for out in maps]
    detector = MODELS.build(cfg)
    detector.backbone = None
    detector.init_weights()
    detector.backbone = backbone
    return detector


def keep_in_fp32(detector: Any) -> None:
    """Convert proposals, and the inputs of RoIAlign, to float32."""
    from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor

    def floats(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.float() if value.is_floating_point() else value
        return type(value)(map(floats, value))

    if hasattr(detector, 'rpn_head'):
        detector.rpn_head.register_forward_hook(lambda _, x, out: floats(out))
    for module in detector.modules():
        if isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(
                lambda _, x: (floats(x[0]), *x[1:])
            )
