# Table 4: 51.9 box AP, 44.7 mask AP with small-paper, whose weights were never
# released. For its columns:
# --cfg-options model.backbone.arch=small-paper model.backbone.init_cfg=None
_base_ = ['_base_/cascade_mask_rcnn_smt_3x.py']

checkpoint = (
    'https://github.com/AFeng-x/SMT/releases/download/v1.0.0/smt_small.pth'  # noqa: E501
)

model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint=checkpoint),
    )
)
