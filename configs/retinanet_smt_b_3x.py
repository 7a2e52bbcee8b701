# Not in the paper; the release has a config with this drop path rate.
_base_ = [
    '_base_/models/retinanet.py',
    '_base_/data/coco_detection_multiscale.py',
    '_base_/schedules/adamw_3x.py',
]

model = dict(backbone=_base_.smt.b)
# As in the release, whose norms decay too; Table 12 has 2e-4.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4), paramwise_cfg=dict(_delete_=True)
)
