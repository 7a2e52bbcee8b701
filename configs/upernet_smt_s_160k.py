# Table 6: 49.2 mIoU, 50.2 with --tta, with small-paper, whose weights were
# never released. To use small-paper, from random weights:
# --cfg-options model.backbone.arch=small-paper model.backbone.init_cfg=None
_base_ = [
    '_base_/models/upernet.py',
    '_base_/data/ade20k.py',
    '_base_/schedules/adamw_160k.py',
]

model = dict(backbone=_base_.smt.s)
