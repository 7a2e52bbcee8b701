# From ImageNet-22K to 1K: 30 epochs at 2e-5 without Mixup and CutMix (B.2).
# The classifier starts from the rows of the 1,000 classes in the 22K one, as
# in the release. There the rate is 1e-5 per 512 images at 224 x 224 and 2e-5
# at 384 x 384, and Mixup and CutMix are left on.
_base_ = ['imagenet_smt.py']

checkpoint = (
    'https://github.com/AFeng-x/SMT/releases/download/v1.0.0/smt_large_22k.pth'  # noqa: E501
)

model = dict(
    backbone=dict(
        arch='large',
        layer_scale_init_value=1e-4,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    ),
    head=dict(
        in_channels=768,
        init_cfg=dict(
            _delete_=True,
            type='mmsmt.PretrainedClassifier',
            checkpoint=checkpoint,
        ),
    ),
    train_cfg=None,
)
optim_wrapper = dict(optimizer=dict(lr=2e-5))
train_cfg = dict(max_epochs=30)
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor = 1e-3
param_scheduler[1].update(eta_min=2e-7, end=30)
