# ATSS over mmdet's recipe (model, data, runtime), with the augmentation of
# multiscale.py and the schedule of adamw_3x.py. As in the release, the
# learning rate is 1e-4 (Table 12: 2e-4) and weight decay applies to norms.
_base_ = [
    'mmdet::atss/atss_r50_fpn_1x_coco.py',
    '../data/coco_tta.py',
    '../data/multiscale.py',
    '../runtime.py',
    'smt.py',
]

model = dict(
    backbone=dict(_delete_=True, type='mmsmt.SMT'),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    *_base_.multiscale,
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500
    ),
    dict(
        type='MultiStepLR',
        begin=0,
        end=36,
        by_epoch=True,
        milestones=[27, 33],
        gamma=0.1,
    ),
]
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='AdamW',
        lr=1e-4,
        betas=(0.9, 0.999),
        weight_decay=0.05,
    ),
)
