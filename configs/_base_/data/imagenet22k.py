# ImageNet-22K, split by Swin's lists, which the release reads.
_base_ = ['imagenet.py']

dataset = dict(
    _delete_=True,
    type='mmsmt.ImageNet22K',
    data_root='data/imagenet22k',
)

data_preprocessor = dict(num_classes=21841)
train_dataloader = dict(
    dataset=dict(
        dataset,
        ann_file='ILSVRC2011fall_whole_map_train.txt',
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        dataset,
        ann_file='ILSVRC2011fall_whole_map_val.txt',
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader
