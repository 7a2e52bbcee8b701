# Not in the paper, which has no segmentation results with SMT-T; the drop path
# rate is that of its ImageNet training (Table 11).
_base_ = ['_base_/upernet_smt_160k.py']

checkpoint = (
    'https://github.com/AFeng-x/SMT/releases/download/v1.0.0/smt_tiny.pth'  # noqa: E501
)

model = dict(
    backbone=dict(
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(checkpoint=checkpoint),
    )
)
