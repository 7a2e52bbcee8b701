# Train Mask R-CNN with SMT-T from scratch on scenes of handwritten digits, in
# minutes on two CPU cores. The backbone and the detector are the real ones,
# with small images, narrow heads, few proposals and few sampled RoIs.
_base_ = [
    '../_base_/models/mask_rcnn.py',
    '../_base_/data/coco_instance.py',
    '../_base_/schedules/adamw_1x.py',
]

classes = tuple('0123456789')
width = 64  # channels of the neck and the heads
norm_cfg = dict(type='BN')  # from scratch, neck and mask head learn faster
finest_scale = 14  # RoIs of 28 pixels or more use the next level

model = dict(
    backbone=dict(arch='tiny', init_cfg=None),
    neck=dict(out_channels=width, norm_cfg=norm_cfg),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        anchor_generator=dict(scales=[4]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width, finest_scale=finest_scale),
        bbox_head=dict(in_channels=width, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=width, finest_scale=finest_scale),
        mask_head=dict(
            in_channels=width,
            conv_out_channels=width,
            num_classes=10,
            norm_cfg=norm_cfg,
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        # Half of the RoIs on digits, for more mask samples.
        rcnn=dict(sampler=dict(num=32, pos_fraction=0.5)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100)),
)

image = dict(type='LoadImageFromFile')
labels = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
resize = dict(type='Resize', scale=(128, 128), keep_ratio=True)
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
pack = dict(type='PackDetInputs', meta_keys=meta_keys)

data_root = 'data/demo_digits/'
metainfo = dict(classes=classes)
train_dataloader = dict(
    batch_size=8,
    num_workers=0,  # images are small, cores are few
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/digits_train2017.json',
        metainfo=metainfo,
        pipeline=[image, labels, resize, pack],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/digits_val2017.json',
        metainfo=metainfo,
        pipeline=[image, resize, labels, pack],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/digits_val2017.json')
test_evaluator = val_evaluator

max_epochs = 2
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
    optimizer=dict(lr=3e-3, betas=(0.9, 0.99)),
    clip_grad=dict(max_norm=1, norm_type=2),
)
auto_scale_lr = dict(base_batch_size=8)
randomness = dict(seed=0)  # AP varies from seed to seed after so few epochs
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2)
)
