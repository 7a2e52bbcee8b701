"""The configs' models train and predict."""

import pytest
import torch
from mmengine.registry import MODELS
from support.configs import SAME_MODEL, batch_for, build, load
from support.recipes import RECIPES

# Of SMT-B the build is tested (test_size); its runs are SMT-S's, only longer.
RUN = [n for n in RECIPES if n not in SAME_MODEL and '_smt_b_' not in n]


@pytest.mark.parametrize('name', RUN)
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
    assert model.roi_head.with_mask  # hidden while augmented only


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
