# Table 2: 88.1 top-1. 8 GPUs x 64 images. Tests use the whole image, not a
# crop, as in the release.
_base_ = [
    '_base_/models/classifier_ft.py',
    '_base_/data/imagenet_384.py',
    '_base_/schedules/imagenet_ft_30e.py',
]

auto_scale_lr = dict(base_batch_size=512)
