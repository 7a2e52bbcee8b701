# Not in the paper; the release has a config with this drop path rate.
_base_ = ['_base_/models/atss.py']

model = dict(backbone=_base_.smt.b)
