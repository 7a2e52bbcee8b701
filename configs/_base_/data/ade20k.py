# ADE20K at 512 x 512, 2 images per GPU.
_base_ = ['../mmseg.py', 'mmseg::_base_/datasets/ade20k.py']

train_dataloader = dict(batch_size=2)

# Multi-scale test of Table 6: 0.5 to 1.75 times the size of the single-scale
# test. (mmseg's own pipeline uses multiples of the image's size on disk.)
tta_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(
                    type='Resize',
                    scale=(int(2048 * ratio), int(512 * ratio)),
                    keep_ratio=True,
                )
                for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
