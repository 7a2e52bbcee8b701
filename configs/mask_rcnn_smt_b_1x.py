# Table 3: 49.0 box AP, 44.0 mask AP.
_base_ = [
    '_base_/models/mask_rcnn.py',
    '_base_/data/coco_instance.py',
    '_base_/schedules/adamw_1x.py',
]

model = dict(backbone=_base_.smt.b)
