# Table 5: 49.9 box AP with small-paper, whose weights were never
# released. To use small-paper, from random weights:
# --cfg-options model.backbone.arch=small-paper model.backbone.init_cfg=None
_base_ = ['_base_/models/atss.py']

model = dict(backbone=_base_.smt.s)
