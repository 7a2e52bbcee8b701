# RetinaNet. The release's learning rate is 1e-4 and norms decay too; Table 12
# has 2e-4.
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', 'coco_box_3x.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmsmt.SMT',
        init_cfg=dict(type='Pretrained'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=None)
