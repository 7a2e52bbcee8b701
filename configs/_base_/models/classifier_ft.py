# SMT-L from ImageNet-22K, without Mixup and CutMix (B.2; the release leaves
# them on). Initialize the classifier with the rows of the 1,000 classes in the
# 22K classifier, as in the release.
_base_ = ['classifier.py', 'smt.py']

model = dict(
    backbone=dict(_base_.smt.l, drop_path_rate=0.1),
    head=dict(
        in_channels=768,
        init_cfg=dict(
            _delete_=True,
            type='mmsmt.PretrainedClassifier',
            checkpoint=_base_.smt.l.init_cfg.checkpoint,
        ),
    ),
    train_cfg=None,
)
