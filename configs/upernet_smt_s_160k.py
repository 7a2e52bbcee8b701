# Table 6: 49.2 mIoU, 50.2 with --tta, with small-paper, whose weights were
# never released. For its columns:
# --cfg-options model.backbone.arch=small-paper model.backbone.init_cfg=None
_base_ = ['_base_/upernet_smt_160k.py']

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
