# Table 5: 54.0 box AP with small-paper, whose weights were never
# released. To use small-paper, from random weights:
# --cfg-options model.backbone.arch=small-paper model.backbone.init_cfg=None
_base_ = ['_base_/models/dino.py']

model = dict(backbone=_base_.smt.s)
