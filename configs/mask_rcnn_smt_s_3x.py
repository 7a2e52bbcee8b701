# Table 3: 49.0 box AP, 43.4 mask AP with small-paper, whose weights were never
# released. To use small-paper, from random weights:
# --cfg-options model.backbone.arch=small-paper model.backbone.init_cfg=None
_base_ = [
    '_base_/models/mask_rcnn.py',
    '_base_/data/coco_instance_multiscale.py',
    '_base_/schedules/adamw_3x.py',
]

model = dict(backbone=_base_.smt.s)
