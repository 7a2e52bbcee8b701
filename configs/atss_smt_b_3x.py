# Not in the paper; the release has a config for it, with this drop path rate.
_base_ = ['_base_/atss_smt_3x.py']

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
