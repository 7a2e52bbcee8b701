_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', 'smt.py']

model = dict(
    backbone=dict(_delete_=True, type='mmsmt.SMT'),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
