# ImageNet at 224 x 224, 128 images per GPU, with Swin's augmentation, which
# SMT shares. Colours are not jittered, except by RandAugment.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py']

# Loader settings that mmpretrain's own train.py adds to a config.
loader = dict(
    pin_memory=True,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
)
train_dataloader = dict(batch_size=128, **loader)
val_dataloader = loader
test_dataloader = loader
