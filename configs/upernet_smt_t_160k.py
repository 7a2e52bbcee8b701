# Not in the paper, which has no segmentation results with SMT-T. The drop path
# rate is that of its ImageNet training (Table 11).
_base_ = [
    '_base_/models/upernet.py',
    '_base_/data/ade20k.py',
    '_base_/schedules/adamw_160k.py',
]

model = dict(backbone=_base_.smt.t)
