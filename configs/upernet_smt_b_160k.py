# Table 6: 49.6 mIoU, 50.6 with --tta.
_base_ = ['_base_/upernet_smt_160k.py']

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
