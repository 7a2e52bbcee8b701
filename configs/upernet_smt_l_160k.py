# Not in the paper, which has no segmentation results with SMT-L. Start from
# ImageNet-22K weights, with the drop path rate of SMT-B.
_base_ = [
    '_base_/models/upernet.py',
    '_base_/data/ade20k.py',
    '_base_/schedules/adamw_160k.py',
]

model = dict(
    backbone=_base_.smt.l,
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
