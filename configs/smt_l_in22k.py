# SMT-L on ImageNet-22K for 90 epochs of batch 4096 (B.2), here 32 GPUs x 128;
# for 8, as in the release: optim_wrapper.accumulative_counts=4. No validation.
_base_ = ['_base_/imagenet_smt.py']

smt = dict(arch='large', layer_scale_init_value=1e-4, drop_path_rate=0.1)
head = dict(num_classes=21841, in_channels=768)
model = dict(backbone=smt, head=head)
data_preprocessor = dict(num_classes=21841)
train_dataloader = dict(
    dataset=dict(type='ImageNet21k', data_root='data/imagenet22k')
)
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=90)
default_hooks = dict(checkpoint=dict(save_best=None))
param_scheduler = _base_.param_scheduler
param_scheduler[0].start_factor = 1e-6 / 1e-3
param_scheduler[1].end = 90
auto_scale_lr = dict(base_batch_size=4096)
