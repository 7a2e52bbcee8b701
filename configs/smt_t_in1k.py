# Tables 1 and 14: 82.2. Trained from scratch.
_base_ = ['_base_/imagenet_smt.py']

model = dict(backbone=dict(arch='tiny', drop_path_rate=0.1))
