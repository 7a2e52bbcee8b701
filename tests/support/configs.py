"""Read the shipped configs and build their models."""

import copy
import functools
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.structures import InstanceData, PixelData

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@functools.cache
def read_config(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


def load(name: str) -> Config:
    cfg = copy.deepcopy(read_config(name))
    if DefaultScope.get_current_instance() is None or (
        DefaultScope.get_current_instance().scope_name != cfg.default_scope
    ):
        init_default_scope(cfg.default_scope)
    return cfg


def build(cfg: Config, device: str = 'cpu'):
    """The model, its backbone at random and without drop path."""
    cfg.model.backbone.update(init_cfg=None, drop_path_rate=0.0)
    if 'head' in cfg.model:
        cfg.model.head.init_cfg = None
    if 'data_preprocessor' in cfg:  # as the runner does
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    torch.manual_seed(0)
    with torch.device(device):
        return MODELS.build(cfg.model)


def batch_for(cfg: Config, height: int = 64, width: int = 96) -> dict:
    """Two random images with labels, as the host's loader gives them."""
    generator = torch.Generator().manual_seed(0)

    def rand(high, shape):
        return torch.randint(0, high, shape, generator=generator)

    images = [rand(256, (3, height, width)).byte() for _ in range(2)]
    meta = dict(
        img_shape=(height, width),
        ori_shape=(height, width),
        batch_input_shape=(height, width),
        scale_factor=(1.0, 1.0),
        img_id=1,
    )
    if cfg.default_scope == 'mmdet':
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks

        boxes = torch.tensor([[6.0, 6, 36, 35], [30, 20, 66, 60]])
        masks = np.zeros((2, height, width), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
            mask[y1:y2, x1:x2] = 1
        truth = InstanceData(
            bboxes=boxes,
            labels=torch.tensor([1, 7]),
            masks=BitmapMasks(masks, height, width),
        )
        samples = [
            DetDataSample(gt_instances=truth.clone(), metainfo=meta)
            for _ in images
        ]
    elif cfg.default_scope == 'mmseg':
        from mmseg.structures import SegDataSample

        images = [image[:, :64, :64] for image in images]
        meta = dict(meta, img_shape=(64, 64), ori_shape=(64, 64))
        labels = [PixelData(data=rand(150, (1, 64, 64))) for _ in images]
        samples = [
            SegDataSample(gt_sem_seg=label, metainfo=meta) for label in labels
        ]
    else:
        from mmpretrain.structures import DataSample

        images = torch.stack(images)
        samples = [DataSample().set_gt_label(i) for i in (1, 7)]
    return dict(inputs=images, data_samples=samples)


SAME_MODEL = {
    'mask_rcnn_smt_t_3x': 'mask_rcnn_smt_t_1x',
    'mask_rcnn_smt_s_3x': 'mask_rcnn_smt_s_1x',
    'mask_rcnn_smt_b_3x': 'mask_rcnn_smt_b_1x',
    'smt_l_in1k_ft_384': 'smt_l_in1k_ft_224',
}
