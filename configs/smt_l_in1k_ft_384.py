# Table 2: 88.1. 8 GPUs x 64 images; tested on the whole image, not a crop, as
# in the release.
_base_ = ['_base_/imagenet_smt_ft.py']

bicubic = dict(backend='pillow', interpolation='bicubic')
train_pipeline = _base_.train_pipeline
train_pipeline[1] = dict(type='RandomResizedCrop', scale=384, **bicubic)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=384, **bicubic),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
auto_scale_lr = dict(base_batch_size=512)
