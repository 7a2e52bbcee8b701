_base_ = ['../mmseg.py', 'mmseg::_base_/models/upernet_swin.py', 'smt.py']

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(_delete_=True, type='mmsmt.SMT'),
    decode_head=dict(in_channels=[64, 128, 256, 512], num_classes=150),
    auxiliary_head=dict(in_channels=256, num_classes=150),
)
