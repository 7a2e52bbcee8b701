"""Stock detectors with SMT, whose operators no compiler made, in one step.

Each config is mmdet's own but for its backbone; it trains a step and predicts.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope

from mmsmt.ops import operators_in_use

CHANNELS = [64, 128, 256, 512]

# Families of the project's configs, then others that call operators of mmcv.
CONFIGS = [
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'retinanet/retinanet_r50_fpn_1x_coco.py',
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',
    'atss/atss_r50_fpn_1x_coco.py',
    'dino/dino-4scale_r50_8xb2-12e_coco.py',
    # anchor-free
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'foveabox/fovea_r50_fpn_gn-head-align_4xb4-2x_coco.py',
    'reppoints/reppoints-moment_r50_fpn_1x_coco.py',
    'tood/tood_r50_fpn_1x_coco.py',
    'vfnet/vfnet_r50-mdconv-c3-c5_fpn_ms-2x_coco.py',
    # real-time
    'rtmdet/rtmdet-ins_s_8xb32-300e_coco.py',
    'yolox/yolox_s_8xb8-300e_coco.py',
    # transformers
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    # masks
    'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
    'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py',
    'solov2/solov2_r50_fpn_1x_coco.py',
    # deformable convolution and pooling, masked convolution, upsampling
    'cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py',
    'dcnv2/faster-rcnn_r50_fpn_mdpool_1x_coco.py',
    'dyhead/atss_r50_fpn_dyhead_1x_coco.py',
    'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py',
    'carafe/mask-rcnn_r50_fpn-carafe_1x_coco.py',
    # grouped suppression
    'pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py',
]


def walk(node):
    """Yield every dict below a config's node."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from walk(value)


def with_smt(name: str) -> Config:
    """Read a config of mmdet's and replace its backbone."""
    folder = Path(find_spec('mmdet').origin).parent / '.mim' / 'configs'
    cfg = Config.fromfile(folder / name)
    model = cfg.model
    first = model.get('neck') or model.panoptic_head
    first = first[0] if isinstance(first, list) else first
    count = len(first['in_channels'])
    first['in_channels'] = CHANNELS[-count:]
    model.backbone = dict(
        type='mmsmt.SMT', arch='tiny', out_indices=tuple(range(4 - count, 4))
    )
    for node in walk(model):
        if (node.get('init_cfg') or {}).get('type') == 'Pretrained':
            node['init_cfg'] = None
        # Few of everything.
        for key in ('max_per_img', 'nms_pre', 'num_dn_queries'):
            if key in node:
                node[key] = min(node[key], 50)
        if 'num' in node and 'pos_fraction' in node:
            node['num'] = 16
        if node.get('type') == 'BatchFixedSizePad':
            node['size'] = (64, 96)
    if model.get('num_queries', 0) > 300:
        model.num_queries = 30  # of those of a small image
    return cfg


COMPILED = operators_in_use() == 'compiled'
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
# Their operators have no CPU kernel in a compiled mmcv.
GPU_ONLY = ('dcnv2', 'guided_anchoring', 'carafe')


@pytest.mark.parametrize('name', CONFIGS, ids=lambda x: x.split('/')[0])
def test_trains_a_step_and_predicts(name):
    from mmdet.testing import demo_mm_inputs

    if COMPILED and DEVICE == 'cpu' and name.split('/')[0] in GPU_ONLY:
        pytest.skip('a compiled mmcv has no CPU kernel')
    if DEVICE == 'cuda' and name.startswith('reppoints'):
        pytest.skip("mmdet's PointAssigner indexes a CPU tensor by a GPU's")
    cfg = with_smt(name)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.to(DEVICE)
    progress = MessageHub.get_current_instance()  # a runner's, to modules
    for key, value in (('iter', 0), ('epoch', 0), ('max_iters', 10)):
        progress.update_info(key, value)
    settings = dict(num_classes=80, with_mask=not name.startswith('yolox'))
    data = demo_mm_inputs(2, [[3, 64, 96]] * 2, num_items=[2, 3], **settings)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-7))
    before = model.backbone.block1[0].attn.v.weight.clone()
    loss = model.train().train_step(data, wrapper)['loss']
    assert loss.isfinite()
    assert not torch.equal(before, model.backbone.block1[0].attn.v.weight)
    data = demo_mm_inputs(1, [[3, 64, 96]], num_items=[1], **settings)
    with torch.no_grad():
        (sample,) = model.eval().test_step(data)
    assert 'pred_instances' in sample or 'pred_panoptic_seg' in sample


@pytest.mark.smoke
@pytest.mark.skipif(COMPILED, reason='a compiled mmcv has no bf16 on a CPU')
def test_bf16_autocast_on_a_cpu():
    """A step of Mask R-CNN, which mmcv's compiled operators cannot."""
    from mmdet.testing import demo_mm_inputs

    cfg = with_smt(CONFIGS[0])
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    data = demo_mm_inputs(
        2, [[3, 64, 96]] * 2, num_items=[2, 3], with_mask=True
    )
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-7))
    with torch.autocast('cpu', torch.bfloat16):
        loss = model.train().train_step(data, wrapper)['loss']
    assert loss.isfinite()
    assert all(
        p.grad.isfinite().all()
        for p in model.parameters()
        if p.grad is not None
    )
    model.eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        model.test_step(data)
