_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmsmt.SMT',
        init_cfg=dict(type='Pretrained'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)

tta_model = dict(
    type='mmsmt.tta.BoxTTAModel',  # mmdet's own refuses masks
    tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
)
