# Not in the paper, which has no segmentation results with SMT-L; its weights
# are of ImageNet-22K and the drop path rate is that of SMT-B.
_base_ = ['_base_/upernet_smt_160k.py']

checkpoint = (
    'https://github.com/AFeng-x/SMT/releases/download/v1.0.0/smt_large_22k.pth'  # noqa: E501
)

model = dict(
    backbone=dict(
        arch='large',
        layer_scale_init_value=1e-4,  # as its weights
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint=checkpoint),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
