# Tables 1 and 14: 82.2 top-1. Trained from scratch.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/data/imagenet.py',
    '_base_/schedules/imagenet_300e.py',
]

model = dict(backbone=dict(arch='tiny', drop_path_rate=0.1))
