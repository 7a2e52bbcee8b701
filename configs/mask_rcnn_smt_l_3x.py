# Not in the paper, which has no detection results with SMT-L. Start from
# ImageNet-22K weights, with the drop path rate of SMT-B.
_base_ = [
    '_base_/models/mask_rcnn.py',
    '_base_/data/coco_instance_multiscale.py',
    '_base_/schedules/adamw_3x.py',
]

model = dict(
    backbone=_base_.smt.l,
    neck=dict(in_channels=[96, 192, 384, 768]),
)
