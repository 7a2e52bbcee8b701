# Table 5: 50.2 box AP with small-paper, whose weights were never
# released. To use small-paper, from random weights:
# --cfg-options model.backbone.arch=small-paper model.backbone.init_cfg=None
_base_ = ['_base_/models/sparse_rcnn.py']

model = dict(backbone=_base_.smt.s)
