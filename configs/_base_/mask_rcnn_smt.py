_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmsmt.SMT',
        init_cfg=dict(type='Pretrained'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
