# Not in the paper, which has no detection results with SMT-L; its weights are
# of ImageNet-22K and the drop path rate is that of SMT-B.
_base_ = [
    '_base_/models/mask_rcnn.py',
    '_base_/data/coco_instance_multiscale.py',
    '_base_/schedules/adamw_3x.py',
]

model = dict(
    backbone=_base_.smt.l,
    neck=dict(in_channels=[96, 192, 384, 768]),
)
