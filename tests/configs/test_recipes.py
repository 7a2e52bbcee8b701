"""The shipped configs against the recipes of the paper."""

import ast
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from support.configs import CONFIGS, SAME_MODEL, build, load
from support.recipes import RECIPES, Recipe

from mmsmt import SMT, environment, weights
from mmsmt.weights.fingerprints import find_configs

CHANNELS = dict(
    {arch: [64, 128, 256, 512] for arch in ('tiny', 'small', 'base')},
    large=[96, 192, 384, 768],
)


SIDES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]


ONEDL = 'onedl-mmdetection' in environment.installed()


def test_all_configs_are_in_the_table():
    assert {path.stem for path in CONFIGS.glob('*.py')} == set(RECIPES)


def test_the_model_zoo_has_them_all():
    """With their size, and the day and packages of their rehearsal."""
    text = (CONFIGS.parent / 'docs' / 'model_zoo.md').read_text()
    rows = re.findall(
        r'^\| \[(\w+)\]\(../configs/\1.py\) \| ([\d.]+) M \| .* '
        r'\| built, rehearsed 20\d\d-\d\d-\d\d, (?:onedl|openmmlab) \|$',
        text,
        re.MULTILINE,
    )
    sizes = {name: float(size) for name, size in rows}
    assert sizes == {name: recipe.params for name, recipe in RECIPES.items()}


@pytest.mark.parametrize('name', RECIPES)
def test_form(name):
    """At most 20 lines, and what is read before the code runs parses."""
    text = (CONFIGS / f'{name}.py').read_text()
    assert len(text.splitlines()) <= 20
    ast.parse(text)
    assert ('small-paper' in text) == (RECIPES[name].arch == 'small')


@pytest.mark.parametrize('name', RECIPES)
def test_recipe(name):
    recipe, cfg = RECIPES[name], load(name)
    assert cfg.model.type == recipe.model
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.arch) == ('mmsmt.SMT', recipe.arch)
    assert backbone.drop_path_rate == recipe.drop
    layer_scale = 1e-4 if recipe.arch == 'large' else 0
    assert backbone.get('layer_scale_init_value', 0) == layer_scale
    if recipe.weights:
        assert backbone.init_cfg == dict(
            type='Pretrained',
            checkpoint=weights.RELEASED_WEIGHTS[recipe.weights],
        )
    else:
        assert 'init_cfg' not in backbone

    wrapper = dict(cfg.optim_wrapper)
    assert wrapper.get('type', 'OptimWrapper') == 'OptimWrapper'
    optimizer = dict(wrapper['optimizer'])
    optimizer.pop('_scope_', None)
    assert optimizer.pop('type') == 'AdamW'
    assert optimizer.pop('lr') == pytest.approx(recipe.lr)
    assert optimizer.pop('weight_decay') == recipe.decay
    assert optimizer.pop('betas', (0.9, 0.999)) == (0.9, 0.999)
    assert optimizer.pop('eps', 1e-8) == 1e-8  # AdamW's own
    assert not optimizer  # nothing left of another optimizer
    clip = wrapper.get('clip_grad') or {}
    assert clip.get('max_norm') == recipe.clip
    assert cfg.auto_scale_lr.base_batch_size == recipe.batch
    # mmdet's train.py wants the key; mmpretrain's sets it.
    assert cfg.auto_scale_lr.enable is False
    gpus = 32 if name == 'smt_l_in22k' else 8
    assert cfg.train_dataloader.batch_size * gpus == recipe.batch
    assert [hook.type for hook in cfg.custom_hooks] == [
        'mmsmt.WholeCheckpointHook',
        'mmsmt.SummaryHook',
    ]
    check = dict(mmdet=detection, mmseg=segmentation, mmpretrain=imagenet)
    check[cfg.default_scope](recipe, cfg)


def detection(recipe: Recipe, cfg: Config):
    loop = cfg.train_cfg
    dino = recipe.model == 'DINO'  # counts iterations, without a warm-up
    if dino:
        assert loop.type == 'IterBasedTrainLoop'
        assert (loop.max_iters, loop.val_interval) == (recipe.length, 5000)
        (steps,) = cfg.param_scheduler
    else:
        assert loop.type == 'EpochBasedTrainLoop'
        assert (loop.max_epochs, loop.val_interval) == (recipe.length, 1)
        warmup, steps = cfg.param_scheduler
        assert (warmup.type, warmup.start_factor) == ('LinearLR', 0.001)
        assert (warmup.by_epoch, warmup.begin, warmup.end) == (False, 0, 500)
        assert bool(cfg.optim_wrapper.get('paramwise_cfg')) != recipe.norms
    assert steps.type == 'MultiStepLR' and steps.by_epoch != dino
    assert tuple(steps.milestones) == recipe.milestones
    assert (steps.gamma, steps.end) == (0.1, recipe.length)

    masks = recipe.model in ('MaskRCNN', 'CascadeRCNN')
    for loader in ('train', 'val', 'test'):
        pipeline = cfg[f'{loader}_dataloader'].dataset.pipeline
        (labels,) = [s for s in pipeline if s.type == 'LoadAnnotations']
        assert labels.with_bbox and labels.get('with_mask', False) == masks
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.metric == (['bbox', 'segm'] if masks else 'bbox')
    resize = cfg.test_dataloader.dataset.pipeline[1]
    assert (resize.scale, resize.keep_ratio) == ((1333, 800), True)

    steps = {s.type: s for s in cfg.train_dataloader.dataset.pipeline}
    assert steps['RandomFlip'].prob == 0.5
    if recipe.data == '800x1333':
        assert steps['Resize'].scale == (1333, 800)
        return
    (resize,), (coarse, crop, fine) = steps['RandomChoice'].transforms
    for step in (resize, fine):
        assert step.scales == [(side, 1333) for side in SIDES]
    longest = 4200 if dino else 1333
    assert coarse.scales == [(side, longest) for side in (400, 500, 600)]
    assert (crop.crop_type, crop.crop_size) == ('absolute_range', (384, 600))
    assert 'Resize' not in steps


def test_polynomial_of_the_release():
    """mmcv 1's ``poly`` times its linear warm-up, at ten iterations."""
    cfg = load('upernet_smt_s_160k')
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=6e-5)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(settings, optimizer=optimizer))
        for settings in cfg.param_scheduler
    ]
    at = {0, 1, 10, 749, 1499, 1500, 1501, 80000, 159000, 159999}
    for i in range(160000):
        if i in at:
            warmup = 1 - (1 - min(i / 1500, 1)) * (1 - 1e-6)
            expected = 6e-5 * (1 - i / 160000) * warmup
            found = optimizer.param_groups[0]['lr']
            assert found == pytest.approx(expected, rel=1e-6), i
        for scheduler in schedulers:
            scheduler.step()


def segmentation(recipe: Recipe, cfg: Config):
    loop = cfg.train_cfg
    assert loop.type == 'IterBasedTrainLoop'
    assert (loop.max_iters, loop.val_interval) == (recipe.length, 16000)
    assert 'paramwise_cfg' not in cfg.optim_wrapper  # nothing is exempt
    assert recipe.length == 160000
    assert cfg.model.data_preprocessor.size == (512, 512)
    assert cfg.model.decode_head.in_channels == CHANNELS[recipe.arch]
    assert cfg.model.auxiliary_head.in_channels == CHANNELS[recipe.arch][2]
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        assert head.num_classes == 150
    steps = {s.type: s for s in cfg.train_dataloader.dataset.pipeline}
    assert steps['RandomCrop'].crop_size == (512, 512)
    assert steps['RandomResize'].scale == (2048, 512)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (2048, 512)
    # The multi-scale test: multiples of the test's size, each with its mirror.
    resizes, flips, *_ = cfg.tta_pipeline[1].transforms
    assert [s.scale for s in resizes] == [
        (round(2048 * r), round(512 * r))
        for r in (0.5, 0.75, 1, 1.25, 1.5, 1.75)
    ]
    assert [s.prob for s in flips] == [0, 1]


def imagenet(recipe: Recipe, cfg: Config):
    assert cfg.train_cfg.max_epochs == recipe.length
    scheme = cfg.optim_wrapper.paramwise_cfg
    for kind in ('norm', 'bias', 'flat'):
        assert scheme[f'{kind}_decay_mult'] == 0
    tuning = 'Pretrained' in str(cfg.model.backbone.get('init_cfg'))
    first, floor = (2e-8, 2e-7) if tuning else (1e-6, 1e-5)
    warmup, cosine = cfg.param_scheduler
    assert warmup.type == 'LinearLR' and cosine.type == 'CosineAnnealingLR'
    assert warmup.start_factor * recipe.lr == pytest.approx(first)
    assert (warmup.begin, warmup.end) == (0, 5)
    assert (cosine.begin, cosine.end) == (5, recipe.length)
    assert cosine.eta_min == floor
    for scheduler in (warmup, cosine):
        assert scheduler.by_epoch and scheduler.convert_to_iter_based
    # Mixup and CutMix, but when fine-tuning (B.2).
    augments = [] if tuning else cfg.model.train_cfg.augments
    assert {a.type: a.alpha for a in augments} == (
        {} if tuning else {'Mixup': 0.2, 'CutMix': 1.0}
    )
    assert not tuning or cfg.model.train_cfg is None
    assert cfg.model.head.loss.label_smooth_val == 0.1
    steps = {s.type: s for s in cfg.train_dataloader.dataset.pipeline}
    assert steps['RandomResizedCrop'].scale == int(recipe.data)
    assert steps['RandomResizedCrop'].interpolation == 'bicubic'
    randaug = steps['RandAugment']
    assert (randaug.magnitude_level, randaug.magnitude_std) == (9, 0.5)
    assert randaug.policies == 'timm_increasing'
    assert steps['RandomErasing'].erase_prob == 0.25
    assert cfg.data_preprocessor.num_classes == cfg.model.head.num_classes
    wide = cfg.model.head.num_classes == 21841  # ImageNet-22K
    for split in ('train', 'val', 'test'):
        data = cfg[f'{split}_dataloader'].dataset
        part = 'train' if split == 'train' else 'val'
        kind, lists = 'ImageNet', ''
        if wide:
            kind = 'mmsmt.ImageNet22K'
            lists = f'ILSVRC2011fall_whole_map_{part}.txt'
        assert (data.type, data.get('ann_file', '')) == (kind, lists)
    assert wide == (recipe.batch == 4096)


@pytest.mark.parametrize('name', RECIPES)
def test_size(name):
    model = build(load(name), 'meta')
    total = sum(p.numel() for p in model.parameters()) / 1e6
    if name.startswith('dino') and ONEDL:  # its head has 4 x 256 inputs, not 2
        total -= 0.131072
    assert round(total, 2) == RECIPES[name].params
    assert isinstance(model.backbone, SMT)
    # Else: python -m mmsmt.weights.fingerprints, on both stacks.
    assert f'{name}.py' in find_configs(model.state_dict())


def test_small_paper_by_one_option():
    cfg = load('mask_rcnn_smt_s_1x')
    cfg.merge_from_dict(
        {'model.backbone.arch': 'small-paper', 'model.backbone.init_cfg': None}
    )
    model = build(cfg, 'meta')
    assert model.backbone.arch == 'small-paper'
    # Table 3: 40.0 M.
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 40.08


def test_exempt_from_decay():
    """Norms named so are exempt, and nothing else (as in the release)."""
    cfg = load('mask_rcnn_smt_t_1x')
    model = build(cfg, 'meta')
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {
        id(g['params'][0]): g['weight_decay'] for g in optimizer.param_groups
    }
    for name, param in model.named_parameters():
        assert decay[id(param)] == (0.0 if 'norm' in name else 0.05), name
    exempt = [n for n, _ in model.named_parameters() if 'norm' in n]
    assert len(exempt) == 2 * (2 * 13 + 4 + 4)
    assert not any('bn' in name for name in exempt)


def test_dino_is_detrex_s():
    """Settings in which mmdet's recipe differs from detrex's for Swin."""
    cfg = load('dino_smt_s_1x')
    cfg.model.backbone.init_cfg = None
    model = build(cfg, 'meta')
    encoding = model.positional_encoding
    assert (encoding.temperature, encoding.offset) == (10000, -0.5)
    assert encoding.normalize and encoding.scale == pytest.approx(2 * torch.pi)
    dataset = cfg.train_dataloader.dataset
    assert dataset.filter_cfg.filter_empty_gt is True
    assert cfg.train_dataloader.sampler.type == 'InfiniteSampler'
    saving = cfg.default_hooks.checkpoint
    assert (saving.by_epoch, saving.interval) == (False, 5000)
    assert cfg.log_processor.by_epoch is False

    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    groups = {id(g['params'][0]): g for g in optimizer.param_groups}
    norms = [
        module
        for module in model.modules()
        if 'Norm' in type(module).__name__ and list(module.parameters())
    ]
    exempt = {id(p) for norm in norms for p in norm.parameters()}
    assert sum(isinstance(norm, torch.nn.GroupNorm) for norm in norms) == 4
    for name, param in model.named_parameters():
        group = groups[id(param)]
        decay = 0 if id(param) in exempt else 1e-4
        rate = 1e-5 if name.startswith('backbone.') else 1e-4
        assert group['weight_decay'] == pytest.approx(decay), name
        assert group['lr'] == pytest.approx(rate), name


def test_no_decay_of_biases_and_flat_weights():
    """ImageNet: LayerScale, norms and biases are exempt, nothing else."""
    cfg = load('smt_l_in1k')
    model = build(cfg, 'meta')
    groups = build_optim_wrapper(
        model, cfg.optim_wrapper
    ).optimizer.param_groups
    decay = {id(g['params'][0]): g['weight_decay'] for g in groups}
    for name, param in model.named_parameters():
        exempt = param.ndim == 1
        assert decay[id(param)] == (0.0 if exempt else 0.05), name


def test_atss_is_mmdet_s():
    """Only the backbone and its channels differ from mmdet's ATSS."""
    ours = load('atss_smt_s_3x').model.to_dict()
    theirs = Config.fromfile(
        Path(__import__('mmdet').__file__).parent
        / '.mim/configs/atss/atss_r50_fpn_1x_coco.py'
    ).model.to_dict()
    for model in (ours, theirs):
        del model['backbone'], model['neck']['in_channels']
        model.pop('_scope_', None)
    assert ours == theirs


@pytest.mark.parametrize('name', SAME_MODEL)
def test_schedules_share_a_model(name):
    models = [load(name).model, load(SAME_MODEL[name]).model]
    for model in models:
        model.backbone.update(init_cfg=None, drop_path_rate=0.0)
    assert models[0] == models[1]
