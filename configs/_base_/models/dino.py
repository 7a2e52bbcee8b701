# DINO with four scales for 90,000 iterations of batch 16. The release has no
# config and names detrex; this is its recipe for Swin, where mmdet can follow.
_base_ = [
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    '../data/coco_tta.py',
    '../runtime.py',
    'smt.py',
]

model = dict(
    backbone=dict(_delete_=True, type='mmsmt.SMT', out_indices=(1, 2, 3)),
    neck=dict(in_channels=[128, 256, 512]),
    positional_encoding=dict(temperature=10000, offset=-0.5),
)
train_dataloader = dict(
    dataset=dict(filter_cfg=dict(filter_empty_gt=True)),
    sampler=dict(type='InfiniteSampler'),
)

# Norms do not decay. A custom key leaves out norm_decay_mult, so each norm of
# the backbone has its own; the longest key that a name contains counts.
norm = dict(lr_mult=0.1, decay_mult=0.0)
optim_wrapper = dict(
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={
            'backbone.patch_embed1.bn': norm,
            **{f'backbone.patch_embed{i}.norm': norm for i in (1, 2, 3, 4)},
            **{f'backbone.norm{i}': norm for i in (1, 2, 3, 4)},
            '.norm1.weight': norm,
            '.norm1.bias': norm,
            '.norm2.weight': norm,
            '.norm2.bias': norm,
            '.attn.saa.bn': norm,
        },
    )
)
param_scheduler = [
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=90000,
        milestones=[82500],
        gamma=0.1,
    )
]
train_cfg = dict(
    _delete_=True,
    type='IterBasedTrainLoop',
    max_iters=90000,
    val_interval=5000,
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=16)
