# Train on all of ImageNet-22K, without validation.
_base_ = ['imagenet.py']

data_preprocessor = dict(num_classes=21841)
train_dataloader = dict(
    dataset=dict(type='ImageNet21k', data_root='data/imagenet22k')
)
val_dataloader = val_evaluator = None
test_dataloader = test_evaluator = None
