# 160k iterations of batch 16 (Appendix B.4; the release has the same). Weight
# decay applies to all parameters.
_base_ = [
    '../mmseg.py',
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    '../runtime.py',
]

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01
    ),
)
# As the release: the polynomial counts from iteration 0, and the warm-up
# multiplies it. mmengine's schedulers end an iteration early, hence the 1.
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1501
    ),
    dict(
        type='PolyLR',
        eta_min=0.0,
        power=1.0,
        by_epoch=False,
        begin=0,
        end=160001,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
