# COCO 2017 without masks, multi-scale augmentation.
_base_ = [
    'mmdet::_base_/datasets/coco_detection.py',
    'coco_tta.py',
    'multiscale.py',
]

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    *_base_.multiscale,
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
