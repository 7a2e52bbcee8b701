"""The shipped configs: recipes, form, and that they run."""

import ast
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmsmt import SMT, checkpoints

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'

# name: arch, drop path, epochs, milestones, multi-scale (Table 12 and the
# release agree on all; the paper has no detection with SMT-T).
MASK_RCNN = {
    'mask_rcnn_smt_t_1x': ('tiny', 0.1, 12, [8, 11], False),
    'mask_rcnn_smt_s_1x': ('small', 0.2, 12, [8, 11], False),
    'mask_rcnn_smt_b_1x': ('base', 0.3, 12, [8, 11], False),
    'mask_rcnn_smt_s_3x': ('small', 0.2, 36, [27, 33], True),
    'mask_rcnn_smt_b_3x': ('base', 0.3, 36, [27, 33], True),
}
SIDES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


def test_all_configs_are_in_the_table():
    assert {path.stem for path in CONFIGS.glob('*.py')} == set(MASK_RCNN)


@pytest.mark.parametrize('name', MASK_RCNN)
def test_recipe(name):
    arch, drop_path, epochs, milestones, multi_scale = MASK_RCNN[name]
    cfg = load(name)
    assert cfg.model.type == 'MaskRCNN'
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.arch) == ('mmsmt.SMT', arch)
    assert backbone.drop_path_rate == drop_path
    assert backbone.init_cfg == dict(
        type='Pretrained', checkpoint=checkpoints.RELEASED_WEIGHTS[arch]
    )
    assert cfg.model.neck.in_channels == [64, 128, 256, 512]
    assert cfg.optim_wrapper == dict(
        type='OptimWrapper',
        optimizer=dict(
            type='AdamW', lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05
        ),
        paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=0.0))),
    )
    warmup, steps = cfg.param_scheduler
    assert (warmup.type, warmup.start_factor) == ('LinearLR', 0.001)
    assert (warmup.by_epoch, warmup.begin, warmup.end) == (False, 0, 500)
    assert (steps.type, steps.milestones) == ('MultiStepLR', milestones)
    assert (steps.gamma, steps.by_epoch, steps.end) == (0.1, True, epochs)
    assert cfg.train_cfg == dict(
        type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1
    )
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=16)
    assert cfg.train_dataloader.batch_size == 2  # of 8 GPUs
    assert cfg.val_evaluator.metric == ['bbox', 'segm']
    resize = cfg.test_dataloader.dataset.pipeline[1]
    assert (resize.scale, resize.keep_ratio) == ((1333, 800), True)
    check_training_pipeline(cfg.train_dataloader.dataset.pipeline, multi_scale)


def check_training_pipeline(pipeline, multi_scale):
    steps = {step.type: step for step in pipeline}
    assert steps['RandomFlip'].prob == 0.5
    if not multi_scale:
        assert steps['Resize'].scale == (1333, 800)
        return
    (resize,), (coarse, crop, fine) = steps['RandomChoice'].transforms
    for step in (resize, fine):
        assert step.scales == [(side, 1333) for side in SIDES]
    assert coarse.scales == [(400, 1333), (500, 1333), (600, 1333)]
    assert (crop.crop_type, crop.crop_size) == ('absolute_range', (384, 600))
    assert 'Resize' not in steps


@pytest.mark.parametrize('name', MASK_RCNN)
def test_form(name):
    """At most 20 lines, and what is read before the code runs parses."""
    text = (CONFIGS / f'{name}.py').read_text()
    assert len(text.splitlines()) <= 20
    ast.parse(text)


def test_small_paper_by_one_option():
    cfg = load('mask_rcnn_smt_s_1x')
    cfg.merge_from_dict(
        {'model.backbone.arch': 'small-paper', 'model.backbone.init_cfg': None}
    )
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert model.backbone.arch == 'small-paper'
    # Table 3: 40.0 M.
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 40.08


def test_large_runs_in_detection():
    cfg = load('mask_rcnn_smt_b_1x')
    cfg.merge_from_dict(
        {
            'model.backbone.arch': 'large',
            'model.backbone.layer_scale_init_value': 1e-4,
            'model.neck.in_channels': [96, 192, 384, 768],
        }
    )
    init_default_scope('mmdet')
    with torch.device('meta'):
        MODELS.build(cfg.model)


@pytest.fixture(scope='module')
def mask_rcnn():
    """The tiny Mask R-CNN, built from its config and trained a step."""
    cfg = load('mask_rcnn_smt_t_1x')
    cfg.model.backbone.init_cfg = None
    cfg.model.backbone.drop_path_rate = 0.0
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return cfg, model


def test_exempt_from_decay(mask_rcnn):
    """Norms named so are exempt, and nothing else (FACTS of the release)."""
    cfg, model = mask_rcnn
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {
        id(g['params'][0]): g['weight_decay'] for g in optimizer.param_groups
    }
    for name, param in model.named_parameters():
        assert decay[id(param)] == (0.0 if 'norm' in name else 0.05), name
    exempt = [n for n, _ in model.named_parameters() if 'norm' in n]
    assert len(exempt) == 2 * (2 * 13 + 4 + 4)
    assert not any('bn' in name for name in exempt)


def test_loss_and_prediction(mask_rcnn):
    """One loss with gradients everywhere, one prediction."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    _, model = mask_rcnn
    torch.manual_seed(0)
    boxes = torch.tensor([[10.0, 12, 60, 70], [50, 40, 110, 120]])
    masks = torch.zeros(2, 128, 160, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
        mask[y1:y2, x1:x2] = 1
    sample = DetDataSample(
        gt_instances=InstanceData(
            bboxes=boxes,
            labels=torch.tensor([1, 7]),
            masks=BitmapMasks(masks.numpy(), 128, 160),
        ),
        metainfo=dict(
            img_shape=(128, 160),
            ori_shape=(128, 160),
            scale_factor=(1.0, 1.0),
            img_id=1,
        ),
    )
    image = torch.randint(0, 256, (3, 128, 160), dtype=torch.uint8)
    data = dict(inputs=[image], data_samples=[sample])
    model.train()
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert loss.isfinite()
    for name, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), name
    model.eval()
    with torch.no_grad():
        (result,) = model.test_step(data)
    assert result.pred_instances.masks.shape[1:] == (128, 160)


@pytest.mark.parametrize('name', [n for n in MASK_RCNN if '1x' in n])
def test_detector_has_the_released_backbone(name):
    cfg = load(name)
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        assert isinstance(model.backbone, SMT)
    total = sum(p.numel() for p in model.parameters()) / 1e6
    assert round(total, 2) == {'t': 31.14, 's': 42.19, 'b': 51.68}[name[14]]


def test_digits_config_is_the_real_thing():
    """The demo's backbone and detector differ in widths and sizes only."""
    cfg = load('demo/mask_rcnn_smt_t_digits')
    real = load('mask_rcnn_smt_t_1x')
    assert cfg.model.backbone.arch == 'tiny'
    assert cfg.model.backbone.init_cfg is None

    def types(node):
        if isinstance(node, dict):
            found = {k: types(v) for k, v in node.items() if types(v)}
            return {**found, **({'=': node['type']} if 'type' in node else {})}
        return None

    mine, theirs = types(cfg.model.to_dict()), types(real.model.to_dict())
    del theirs['backbone']['init_cfg'], mine['neck']['norm_cfg']
    del mine['roi_head']['mask_head']['norm_cfg']
    assert mine == theirs
