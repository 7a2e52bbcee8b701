# 30 epochs at learning rate 2e-5 (B.2). The release has 1e-5 per 512 images at
# 224 x 224 and 2e-5 at 384 x 384.
_base_ = ['imagenet_300e.py']

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(lr=2e-5))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=2e-7,
        by_epoch=True,
        begin=5,
        end=30,
        convert_to_iter_based=True,
    ),
]
