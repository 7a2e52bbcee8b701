# Not in the paper, which has no detection results with SMT-T. The drop path
# rate is that of its ImageNet training (Table 11).
_base_ = [
    '_base_/models/mask_rcnn.py',
    '_base_/data/coco_instance_multiscale.py',
    '_base_/schedules/adamw_3x.py',
]

model = dict(backbone=_base_.smt.t)
