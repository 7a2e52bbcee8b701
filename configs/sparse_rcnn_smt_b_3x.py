# Not in the paper; the release has a config with this drop path rate (Table 12
# has 0.3 for SMT-B).
_base_ = ['_base_/models/sparse_rcnn.py']

model = dict(backbone=dict(_base_.smt.b, drop_path_rate=0.2))
