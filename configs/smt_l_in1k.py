# Table 14: 84.6 top-1. Trained from scratch; such weights were not released.
# The release has LayerScale and a drop path rate of 0.4, Table 11 has 0.5.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/data/imagenet.py',
    '_base_/schedules/imagenet_300e.py',
]

model = dict(
    backbone=dict(
        arch='large', layer_scale_init_value=1e-4, drop_path_rate=0.5
    ),
    head=dict(in_channels=768),
)
