# Table 3: 47.8 box AP, 43.0 mask AP with small-paper, whose weights were never
# released. To use small-paper, from random weights:
# --cfg-options model.backbone.arch=small-paper model.backbone.init_cfg=None
_base_ = [
    '_base_/models/mask_rcnn.py',
    '_base_/data/coco_instance.py',
    '_base_/schedules/adamw_1x.py',
]

model = dict(backbone=_base_.smt.s)
