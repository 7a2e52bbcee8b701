# Table 2: 87.1 top-1. 8 GPUs x 128 images.
_base_ = [
    '_base_/models/classifier_ft.py',
    '_base_/data/imagenet.py',
    '_base_/schedules/imagenet_ft_30e.py',
]
