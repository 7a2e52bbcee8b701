# COCO 2017 with masks, multi-scale augmentation.
_base_ = ['coco_instance.py', 'multiscale.py']

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    *_base_.multiscale,
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
