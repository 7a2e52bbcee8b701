# Not in the paper, which has no segmentation results with SMT-L; its weights
# are of ImageNet-22K and the drop path rate is that of SMT-B.
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
