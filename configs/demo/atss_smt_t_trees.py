# Train ATSS with SMT-T from scratch on tiles of aerial photographs, for
# comparisons on two CPU cores: mmsmt trees --out data/trees
_base_ = ['../_base_/models/atss.py']

width = 64  # channels of the neck and the head
model = dict(
    backbone=dict(arch='tiny', init_cfg=None),
    neck=dict(out_channels=width, norm_cfg=dict(type='GN', num_groups=16)),
    bbox_head=dict(
        in_channels=width,
        feat_channels=width,
        stacked_convs=2,
        num_classes=1,
        anchor_generator=dict(octave_base_scale=6),
    ),
)

data_root = 'data/trees/'
metainfo = dict(classes=('tree',))
image = dict(type='LoadImageFromFile')
labels = dict(type='LoadAnnotations', with_bbox=True)
resize = dict(type='Resize', scale=(192, 192), keep_ratio=True)
# The photographs differ in light and in how close trees stand: without these,
# a model finds those of the first one only (box AP 0.42, the other 0.01).
zoom = dict(
    type='RandomResize',
    scale=(192, 192),
    ratio_range=(0.85, 1.3),
    keep_ratio=True,
)
crop = dict(type='RandomCrop', crop_size=(160, 160))
distortion = dict(type='PhotoMetricDistortion')
flip = dict(
    type='RandomFlip',
    prob=[0.25, 0.25, 0.25],
    direction=['horizontal', 'vertical', 'diagonal'],
)
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
pack = dict(type='PackDetInputs', meta_keys=meta_keys)
loader = dict(batch_size=8, num_workers=0, persistent_workers=False)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='train.json',
        data_prefix=dict(img='train/'),
        metainfo=metainfo,
        pipeline=[image, labels, zoom, crop, flip, distortion, pack],
    ),
    **loader,
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        pipeline=[image, resize, labels, pack],
    ),
    **loader,
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'val.json')
test_evaluator = val_evaluator

max_epochs = 9
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        begin=0,
        end=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1, norm_type=2)
)
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2)
)
