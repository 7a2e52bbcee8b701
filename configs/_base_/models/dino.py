# DINO with four scales, 12 epochs: mmdet's recipe. The release has no config;
# the paper's model was trained with another toolbox.
_base_ = [
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    '../data/coco_tta.py',
    '../runtime.py',
    'smt.py',
]

model = dict(
    backbone=dict(_delete_=True, type='mmsmt.SMT', out_indices=(1, 2, 3)),
    neck=dict(in_channels=[128, 256, 512]),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
