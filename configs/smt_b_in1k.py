# Tables 1 and 14: 84.3. Trained from scratch.
_base_ = ['_base_/imagenet_smt.py']

model = dict(backbone=dict(arch='base', drop_path_rate=0.3))
