# Table 3: 49.8 box AP, 44.0 mask AP.
_base_ = [
    '_base_/models/mask_rcnn.py',
    '_base_/data/coco_instance_multiscale.py',
    '_base_/schedules/adamw_3x.py',
]

model = dict(backbone=_base_.smt.b)
