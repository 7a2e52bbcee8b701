"""Small models of each host, with weights and metadata as a run saves them."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from .configs import CONFIGS
from .small import ARCH

WIDTHS = list(ARCH['embed_dims'])
SIDE = 64
CLASSES = {
    'detection': ('cat', 'dog', 'cow'),
    'segmentation': ('sky', 'sea', 'sand', 'sun'),
    'classification': ('ant', 'bee', 'fly', 'bug', 'moth', 'mite', 'wasp'),
}
CHANGES = {
    'detection': (
        'mask_rcnn_smt_t_1x',
        f"""
model = dict(
    neck=dict(in_channels={WIDTHS}),
    rpn_head=dict(anchor_generator=dict(scales=[2])),
    roi_head=dict(
        bbox_head=dict(num_classes=3, fc_out_channels=64),
        mask_head=dict(num_classes=3, conv_out_channels=32, num_convs=1)),
    test_cfg=dict(
        rpn=dict(max_per_img=20),
        rcnn=dict(score_thr=0.0, max_per_img=5)))
test_dataloader = dict(dataset=dict(
    metainfo=dict(classes={CLASSES['detection']}),
    pipeline={{{{_base_.test_dataloader.dataset.pipeline}}}}))
""",
    ),
    'segmentation': (
        'upernet_smt_t_160k',
        f"""
model = dict(
    decode_head=dict(in_channels={WIDTHS}, num_classes=4, channels=32),
    auxiliary_head=dict(
        in_channels={WIDTHS[2]}, num_classes=4, channels=32))
test_dataloader = dict(dataset=dict(
    metainfo=dict(classes={CLASSES['segmentation']})))
""",
    ),
    'classification': (
        'smt_t_in1k',
        f"""
model = dict(head=dict(num_classes=7, in_channels={WIDTHS[-1]}))
test_dataloader = dict(dataset=dict(
    metainfo=dict(classes={CLASSES['classification']})))
data_preprocessor = dict(num_classes=7)
""",
    ),
}


def write_model(task: str, folder: Path) -> tuple[Path, Path]:
    """Write a config and a checkpoint of a task's model; return both."""
    name, changes = CHANGES[task]
    config, checkpoint = folder / f'{task}.py', folder / f'{task}.pth'
    backbone = f'dict(_delete_=True, type="mmsmt.SMT", arch={ARCH!r})'
    config.write_text(
        f'_base_ = ["{CONFIGS}/{name}.py"]\n{changes}'
        f'model["backbone"] = {backbone}\n'
    )
    cfg = Config.fromfile(config)
    _shrink(cfg, config)
    init_default_scope(cfg.default_scope)
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    meta = dict(dataset_meta=dict(classes=CLASSES[task]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return config, checkpoint


def _shrink(cfg: Config, path: Path) -> None:
    """Test on small images."""
    for step in cfg.test_dataloader.dataset.pipeline:
        if 'Resize' in step.type:
            step.scale = SIDE if step.type == 'ResizeEdge' else (96, SIDE)
        elif step.type == 'CenterCrop':
            step.crop_size = SIDE
    cfg.dump(path)
