"""The shipped configs: recipes, form, and that they run."""

import ast
import copy
import functools
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import golden
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    MODELS,
    TRANSFORMS,
    DefaultScope,
    init_default_scope,
)
from mmengine.structures import InstanceData, PixelData

from mmsmt import SMT, environment, weights
from mmsmt.hooks import WholeCheckpointHook
from mmsmt.weights.fingerprints import find_configs

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


class Recipe(NamedTuple):
    """What a config must say; the same numbers stand nowhere else."""

    model: str
    arch: str
    params: float  # millions
    drop_path: float
    weights: str | None  # what the backbone starts from
    lr: float
    decay: float
    norms_decay: bool
    clip: float | None
    length: int  # epochs or iterations
    milestones: tuple[int, ...] = ()
    data: str = 'multi-scale'
    batch: int = 16


def _table() -> dict[str, Recipe]:
    """Table 12, Appendix B and the release's configs; where these differ, the
    release's figures for detection and the paper's for ImageNet."""
    table = {}
    archs = dict(t='tiny', s='small', b='base', l='large')
    weights = {**{a: a for a in archs.values()}, 'large': 'large-22k'}
    drop = dict(t=0.1, s=0.2, b=0.3, l=0.3)
    three = (36, (27, 33))

    for size, millions in zip('tsbl', (31.14, 42.19, 51.68, 100.13)):
        arch = archs[size]
        common = (arch, millions, drop[size], weights[arch], 2e-4, 0.05)
        if size != 'l':
            table[f'mask_rcnn_smt_{size}_1x'] = Recipe(
                'MaskRCNN', *common, False, None, 12, (8, 11), '800 x 1333'
            )
        table[f'mask_rcnn_smt_{size}_3x'] = Recipe(
            'MaskRCNN', *common, False, None, *three
        )
    for name, model, millions, optim in (
        (
            'cascade_mask_rcnn',
            'CascadeRCNN',
            (80.02, 89.51),
            (1e-4, 0.05, True, None),
        ),
        ('retinanet', 'RetinaNet', (32.27, 41.76), (1e-4, 0.05, True, None)),
        ('atss', 'ATSS', (30.14, 39.62), (1e-4, 0.05, True, None)),
        (
            'sparse_rcnn',
            'SparseRCNN',
            (104.14, 113.62),
            (2.5e-5, 1e-4, True, 1),
        ),
    ):
        for size, total in zip('sb', millions):
            arch = archs[size]
            drop_path = 0.2 if name == 'sparse_rcnn' else drop[size]
            table[f'{name}_smt_{size}_3x'] = Recipe(
                model, arch, total, drop_path, arch, *optim, *three
            )
    table['dino_smt_s_1x'] = Recipe(
        'DINO', 'small', 42.01, 0.2, 'small', 1e-4, 1e-4, True, 0.1, 12, (11,)
    )
    for size, millions in zip('tsbl', (41.30, 52.35, 61.83, 112.27)):
        arch = archs[size]
        table[f'upernet_smt_{size}_160k'] = Recipe(
            *('EncoderDecoder', arch, millions, drop[size], weights[arch]),
            *(6e-5, 0.01, True, None, 160000, (), '512 x 512'),
        )
    for size, millions, drop_path in zip(
        'tsbl', (11.51, 22.55, 32.04, 80.62), (0.1, 0.2, 0.3, 0.5)
    ):
        table[f'smt_{size}_in1k'] = Recipe(
            *('ImageClassifier', archs[size], millions, drop_path, None),
            *(2e-3, 0.05, False, 5, 300, (), '224', 1024),
        )
    large = ('ImageClassifier', 'large')
    table['smt_l_in22k'] = Recipe(
        *(*large, 96.65, 0.1, None),
        *(1e-3, 0.05, False, 5, 90, (), '224', 4096),
    )
    for size, batch in ((224, 1024), (384, 512)):
        table[f'smt_l_in1k_ft_{size}'] = Recipe(
            *(*large, 80.62, 0.1, 'large-22k'),
            *(2e-5, 0.05, False, 5, 30, (), str(size), batch),
        )
    return table


RECIPES = _table()
ONEDL = 'onedl-mmdetection' in environment.installed()
CHANNELS = dict(
    {arch: [64, 128, 256, 512] for arch in ('tiny', 'small', 'base')},
    large=[96, 192, 384, 768],
)
SIDES = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]


@functools.cache
def read_config(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


def load(name: str) -> Config:
    cfg = copy.deepcopy(read_config(name))
    if DefaultScope.get_current_instance() is None or (
        DefaultScope.get_current_instance().scope_name != cfg.default_scope
    ):
        init_default_scope(cfg.default_scope)
    return cfg


def build(cfg: Config, device: str = 'cpu'):
    """The model, its backbone at random and without drop path."""
    cfg.model.backbone.update(init_cfg=None, drop_path_rate=0.0)
    if 'head' in cfg.model:
        cfg.model.head.init_cfg = None
    if 'data_preprocessor' in cfg:  # as the runner does
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    torch.manual_seed(0)
    with torch.device(device):
        return MODELS.build(cfg.model)


def test_all_configs_are_in_the_table():
    assert {path.stem for path in CONFIGS.glob('*.py')} == set(RECIPES)


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
    assert backbone.drop_path_rate == recipe.drop_path
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
    assert loop.type == 'EpochBasedTrainLoop'
    assert (loop.max_epochs, loop.val_interval) == (recipe.length, 1)
    *warmup, steps = cfg.param_scheduler
    if recipe.model == 'DINO':
        assert not warmup  # mmdet's recipe has none
        assert cfg.optim_wrapper.paramwise_cfg == dict(
            custom_keys=dict(backbone=dict(lr_mult=0.1))
        )
    else:
        (warmup,) = warmup
        assert (warmup.type, warmup.start_factor) == ('LinearLR', 0.001)
        assert (warmup.by_epoch, warmup.begin, warmup.end) == (False, 0, 500)
        assert (
            cfg.optim_wrapper.get('paramwise_cfg') is None
        ) == recipe.norms_decay
    assert steps.type == 'MultiStepLR' and steps.by_epoch
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
    if recipe.data == '800 x 1333':
        assert steps['Resize'].scale == (1333, 800)
        return
    (resize,), (coarse, crop, fine) = steps['RandomChoice'].transforms
    for step in (resize, fine):
        assert step.scales == [(side, 1333) for side in SIDES]
    longest = 4200 if recipe.model == 'DINO' else 1333
    assert coarse.scales == [(side, longest) for side in (400, 500, 600)]
    assert (crop.crop_type, crop.crop_size) == ('absolute_range', (384, 600))
    assert 'Resize' not in steps


def segmentation(recipe: Recipe, cfg: Config):
    loop = cfg.train_cfg
    assert loop.type == 'IterBasedTrainLoop'
    assert (loop.max_iters, loop.val_interval) == (recipe.length, 16000)
    assert 'paramwise_cfg' not in cfg.optim_wrapper  # nothing is exempt
    warmup, poly = cfg.param_scheduler
    assert warmup == dict(
        type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500
    )
    assert poly == dict(
        type='PolyLR',
        eta_min=0.0,
        power=1.0,
        by_epoch=False,
        begin=1500,
        end=recipe.length,
    )
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
    if cfg.get('test_dataloader') is None:
        assert cfg.val_dataloader is None and cfg.val_cfg is None


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
    # For focal loss; the head takes the same where none is named.
    assert ours['train_cfg'].pop('sampler') == dict(type='PseudoSampler')
    assert ours == theirs


def batch_for(cfg: Config, height: int = 64, width: int = 96) -> dict:
    """Two random images with labels, as the host's loader gives them."""
    generator = torch.Generator().manual_seed(0)

    def rand(high, shape):
        return torch.randint(0, high, shape, generator=generator)

    images = [rand(256, (3, height, width)).byte() for _ in range(2)]
    meta = dict(
        img_shape=(height, width),
        ori_shape=(height, width),
        batch_input_shape=(height, width),
        scale_factor=(1.0, 1.0),
        img_id=1,
    )
    if cfg.default_scope == 'mmdet':
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks

        boxes = torch.tensor([[6.0, 6, 36, 35], [30, 20, 66, 60]])
        masks = np.zeros((2, height, width), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
            mask[y1:y2, x1:x2] = 1
        truth = InstanceData(
            bboxes=boxes,
            labels=torch.tensor([1, 7]),
            masks=BitmapMasks(masks, height, width),
        )
        samples = [
            DetDataSample(gt_instances=truth.clone(), metainfo=meta)
            for _ in images
        ]
    elif cfg.default_scope == 'mmseg':
        from mmseg.structures import SegDataSample

        images = [image[:, :64, :64] for image in images]
        meta = dict(meta, img_shape=(64, 64), ori_shape=(64, 64))
        labels = [PixelData(data=rand(150, (1, 64, 64))) for _ in images]
        samples = [
            SegDataSample(gt_sem_seg=label, metainfo=meta) for label in labels
        ]
    else:
        from mmpretrain.structures import DataSample

        images = torch.stack(images)
        samples = [DataSample().set_gt_label(i) for i in (1, 7)]
    return dict(inputs=images, data_samples=samples)


SAME_MODEL = {
    'mask_rcnn_smt_t_3x': 'mask_rcnn_smt_t_1x',
    'mask_rcnn_smt_s_3x': 'mask_rcnn_smt_s_1x',
    'mask_rcnn_smt_b_3x': 'mask_rcnn_smt_b_1x',
    'smt_l_in1k_ft_384': 'smt_l_in1k_ft_224',
}


@pytest.mark.parametrize('name', SAME_MODEL)
def test_schedules_share_a_model(name):
    models = [load(name).model, load(SAME_MODEL[name]).model]
    for model in models:
        model.backbone.update(init_cfg=None, drop_path_rate=0.0)
    assert models[0] == models[1]


@pytest.mark.parametrize('name', [n for n in RECIPES if n not in SAME_MODEL])
def test_loss_and_prediction(name):
    """One loss with gradients everywhere, one prediction."""
    cfg = load(name)
    if 'num_queries' in cfg.model:  # DINO chooses them from its maps' places
        cfg.model.num_queries = 100
    if RECIPES[name].model == 'SparseRCNN':
        cfg.model.rpn_head.num_proposals = 50
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (64, 64)
    elif RECIPES[name].model in ('MaskRCNN', 'CascadeRCNN'):
        cfg.model.test_cfg.rpn.max_per_img = 100  # fewer regions, for speed
        stages = cfg.model.train_cfg.rcnn
        for stage in stages if isinstance(stages, list) else [stages]:
            stage.sampler.num = 32
    model = build(cfg).train()
    model.init_weights()
    data = batch_for(cfg)
    inputs = model.data_preprocessor(data, True)
    loss, _ = model.parse_losses(model(**inputs, mode='loss'))
    loss.backward()
    assert loss.isfinite()
    for key, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), key
    model.eval()
    with torch.no_grad():
        result = model.test_step(data)[0]
    if cfg.default_scope == 'mmdet':
        found = result.pred_instances
        assert found.bboxes.shape == (len(found.scores), 4)
        masks = RECIPES[name].model in ('MaskRCNN', 'CascadeRCNN')
        assert ('masks' in found) == masks
        assert not masks or found.masks.shape[1:] == (64, 96)
    elif cfg.default_scope == 'mmseg':
        assert result.pred_sem_seg.data.shape == (1, 64, 64)
    else:
        assert result.pred_score.shape == (cfg.model.head.num_classes,)


@pytest.mark.parametrize(
    'name', ['mask_rcnn_smt_t_1x', 'cascade_mask_rcnn_smt_s_3x']
)
def test_augmented_boxes(name):
    """TTA leaves masks out; the boxes are those of the model itself."""
    cfg = load(name)
    cfg.model.test_cfg.rpn.max_per_img = 20
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    model = build(cfg).eval()
    data = batch_for(cfg)
    data = {key: values[:1] for key, values in data.items()}
    sample = data['data_samples'][0]
    # The image was enlarged twice, and is mirrored or not.
    sample.set_metainfo(
        dict(
            scale_factor=(2.0, 2.0),
            ori_shape=(32, 48),
            flip=False,
            flip_direction=None,
        )
    )
    with torch.no_grad():
        (expected,) = model.test_step(data)
    assert 'masks' in expected.pred_instances
    cfg.tta_model.tta_cfg.nms.iou_threshold = 1.0
    cfg.tta_model.tta_cfg.max_per_img = 5
    augmented = MODELS.build(dict(cfg.tta_model, module=model))
    mirrored = sample.new()
    mirrored.set_metainfo(dict(flip=True, flip_direction='horizontal'))
    views = {key: [values] for key, values in data.items()}
    with torch.no_grad():
        (got,) = augmented.test_step(views)
        assert 'masks' not in got.pred_instances
        torch.testing.assert_close(
            got.pred_instances.bboxes, expected.pred_instances.bboxes
        )
        views = dict(
            inputs=[data['inputs'], [data['inputs'][0].flip(-1)]],
            data_samples=[[sample], [mirrored]],
        )
        (got,) = augmented.test_step(views)
    assert len(got.pred_instances) == 5


# Classification --------------------------------------------------------------

GOLDEN = dict(
    tiny='smt_t_in1k',
    small='smt_s_in1k',
    base='smt_b_in1k',
    **{'large-22k': 'smt_l_in1k_ft_224'},
)


@pytest.mark.parametrize('arch', GOLDEN)
def test_classifier_gives_golden_logits(arch):
    """A released file goes in as it is, head included, and is exact."""
    from types import SimpleNamespace

    from mmengine.runner.checkpoint import _load_checkpoint_to_model

    case = golden.case(arch)
    cfg = load(GOLDEN[arch])
    model = build(cfg).eval()
    runner = SimpleNamespace(
        model=model,
        logger=SimpleNamespace(info=print, warning=print),
        cfg=SimpleNamespace(load_from='smt.pth', filename='config'),
    )
    file = dict(model=case['weights'], epoch=299)
    WholeCheckpointHook().after_load_checkpoint(runner, file)
    _load_checkpoint_to_model(model, file, strict=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(case['input']), mode='tensor')
        if isinstance(logits, tuple):
            logits = model.head(logits)
    error = np.abs(logits.numpy() - case['logits']).max()
    assert error <= 1e-5 * np.abs(case['logits']).max()


@pytest.mark.parametrize('size', [224, 384])
def test_pre_processing_is_the_release_s(size):
    """Bicubic, 256 / 224 and the centre, or all of it at 384; ImageNet's mean
    and standard deviation."""
    from PIL import Image
    from torchvision import transforms as T
    from torchvision.transforms import InterpolationMode

    cfg = load('smt_t_in1k' if size == 224 else 'smt_l_in1k_ft_384')
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (9, 12, 3), np.uint8)
    image = Image.fromarray(coarse).resize((501, 333), Image.BICUBIC)
    bicubic = InterpolationMode.BICUBIC
    resize = (
        [T.Resize(256, bicubic), T.CenterCrop(224)]
        if size == 224
        else [T.Resize((384, 384), bicubic)]
    )
    normalize = T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    expected = T.Compose([*resize, T.ToTensor(), normalize])(image)

    for loader in ('val_dataloader', 'test_dataloader'):
        load_image, *steps = cfg[loader].dataset.pipeline
        assert load_image.type == 'LoadImageFromFile'
        results = dict(img=np.ascontiguousarray(np.asarray(image)[..., ::-1]))
        for step in steps:
            results = TRANSFORMS.build(step)(results)
        preprocessor = MODELS.build(
            dict(cfg.data_preprocessor, type='ClsDataPreprocessor')
        )
        got = preprocessor(dict(inputs=[results['inputs']]))['inputs'][0]
        assert got.shape == (3, size, size)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_fine_tuning_starts_from_the_22k_classifier(tmp_path):
    """Of 21,841 rows the 1,000 classes' are taken, whole or not at all."""
    rows = weights.imagenet_22k_to_1k()
    digest = sha256(' '.join(map(str, rows)).encode()).hexdigest()
    assert len(rows) == 1000 and digest.startswith('64b3af4e3db74a16')
    head = load('smt_l_in1k_ft_224').model.head
    assert head.init_cfg.checkpoint.endswith('smt_large_22k.pth')
    weight = torch.arange(21841.0)[:, None].expand(-1, 768).contiguous()
    state = {'head.weight': weight, 'head.bias': torch.arange(21841.0)}
    path = tmp_path / 'smt_large_22k.pth'
    torch.save(dict(model=state), path)
    head.init_cfg.checkpoint = str(path)
    built = MODELS.build(head)
    built.init_weights()
    assert built.fc.bias.tolist() == rows
    assert built.fc.weight[:, 5].tolist() == rows

    head.in_channels = 512
    built = MODELS.build(head)
    with pytest.raises(weights.CheckpointError, match='does not fit the'):
        built.init_weights()
    torch.save(dict(model={'norm4.weight': weight}), path)
    with pytest.raises(weights.CheckpointError, match='missing: weight'):
        built.init_weights()


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
