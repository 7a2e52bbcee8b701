# SMT-L on ImageNet-22K for 90 epochs of batch 4096 (B.2): 32 GPUs x 128, or 8
# with optim_wrapper.accumulative_counts=4, as in the release.
_base_ = [
    '_base_/models/classifier.py',
    '_base_/data/imagenet22k.py',
    '_base_/schedules/imagenet22k_90e.py',
]

model = dict(
    backbone=dict(
        arch='large', layer_scale_init_value=1e-4, drop_path_rate=0.1
    ),
    head=dict(num_classes=21841, in_channels=768),
)
