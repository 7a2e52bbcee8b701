# Table 3: 49.0 box AP, 44.0 mask AP.
_base_ = ['_base_/mask_rcnn_smt.py', '_base_/coco_1x.py']

checkpoint = (
    'https://github.com/AFeng-x/SMT/releases/download/v1.0.0/smt_base.pth'  # noqa: E501
)

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint=checkpoint),
    )
)
