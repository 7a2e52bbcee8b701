# Table 6: 49.6 mIoU, 50.6 with --tta.
_base_ = [
    '_base_/models/upernet.py',
    '_base_/data/ade20k.py',
    '_base_/schedules/adamw_160k.py',
]

model = dict(backbone=_base_.smt.b)
