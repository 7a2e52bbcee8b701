"""Options that make a run short."""

CONFIG = 'configs/mask_rcnn_smt_t_1x.py'


# What makes a run short; the configs stay as they are.
SHORT = [
    '--cfg-options',
    'model.backbone.init_cfg=None',
    'model.train_cfg.rpn_proposal.max_per_img=50',
    'model.train_cfg.rcnn.sampler.num=16',
    'model.test_cfg.rpn.max_per_img=20',
    'model.test_cfg.rcnn.max_per_img=10',
    'model.test_cfg.rcnn.score_thr=0.0',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'train_dataloader.dataset.pipeline.2.scale=(64,64)',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'val_dataloader.dataset.pipeline.1.scale=(64,64)',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'test_dataloader.dataset.pipeline.1.scale=(64,64)',
    'tta_pipeline.1.transforms.0.0.scale=(64,64)',
    'default_hooks.logger.interval=1',
]


def loaders(*settings: str) -> list[str]:
    """The same settings for the train, val and test loader."""
    return [
        f'{name}_dataloader.{setting}'
        for name in ('train', 'val', 'test')
        for setting in ('num_workers=0', 'persistent_workers=False', *settings)
    ]
