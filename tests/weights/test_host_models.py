"""A partial load is an error at every door of the hosts."""

import copy

import pytest
import torch
from mmengine.runner import load_checkpoint
from support import golden
from support.configs import build, load
from support.small import ARCH, make

from mmsmt import weights


@pytest.fixture(scope='module')
def detector():
    """A small detector and its config."""
    cfg = load('retinanet_smt_s_3x')
    cfg.model.backbone = dict(type='mmsmt.SMT', arch=ARCH)
    cfg.model.neck.in_channels = list(ARCH['embed_dims'])
    return cfg, build(cfg)


def part_of(model, missing: str) -> dict:
    state = model.state_dict()
    part = {k: v for k, v in state.items() if missing not in k}
    assert len(part) < len(state)
    return dict(state_dict=part, meta=dict(dataset_meta={}))


@pytest.fixture(scope='module', params=['block2.', 'bbox_head'])
def partial(request, detector, tmp_path_factory):
    """A checkpoint that lacks a stage of the backbone, or the head."""
    path = tmp_path_factory.mktemp('partial') / 'partial.pth'
    torch.save(part_of(detector[1], request.param), path)
    return str(path), request.param


def test_init_detector(detector, partial):
    from mmdet.apis import init_detector

    with pytest.raises(weights.CheckpointError, match=partial[1]):
        init_detector(detector[0], partial[0], device='cpu')


def test_det_inferencer(detector, partial, tmp_path):
    from mmdet.apis import DetInferencer

    path = tmp_path / 'config.py'
    detector[0].dump(path)
    with pytest.raises(weights.CheckpointError, match=partial[1]):
        DetInferencer(str(path), partial[0], device='cpu')
    whole = tmp_path / 'whole.pth'
    torch.save(part_of(detector[1], 'num_batches_tracked'), whole)
    inferencer = DetInferencer(str(path), str(whole), device='cpu')
    loaded = inferencer.model.state_dict()
    for name, value in detector[1].state_dict().items():
        assert torch.equal(loaded[name], value), name


@pytest.mark.parametrize('missing', ['norm4', 'decode_head'])
def test_segmenters(tmp_path, missing):
    from mmseg.apis import MMSegInferencer, init_model

    cfg = load('upernet_smt_t_160k')
    cfg.model.decode_head.channels = 32
    cfg.model.auxiliary_head.channels = 32
    path, file = tmp_path / 'config.py', str(tmp_path / 'part.pth')
    model = build(cfg)
    torch.save(part_of(model, missing), file)
    cfg.dump(path)
    for door in (
        lambda: init_model(cfg, file, device='cpu'),
        lambda: MMSegInferencer(str(path), file, device='cpu'),
    ):
        with pytest.raises(weights.CheckpointError, match=missing):
            door()


def test_classifier_as_released(tmp_path):
    """The authors' file loads whole in mmpretrain's ``get_model``."""
    from mmpretrain import get_model

    cfg = load('smt_t_in1k')
    path = tmp_path / 'smt_tiny.pth'
    state = golden.weights('tiny')
    golden.save_as_released(state, path)
    model = get_model(cfg, pretrained=str(path))
    assert torch.equal(model.head.fc.weight, state['head.weight'])
    assert torch.equal(model.backbone.norm4.weight, state['norm4.weight'])
    del state['norm4.weight']
    torch.save(dict(model=state), path)
    with pytest.raises(weights.CheckpointError, match='backbone.norm4.weight'):
        get_model(cfg, pretrained=str(path))


def test_module_s_own_load_is_pytorch_s():
    model, state = make(), make().state_dict()
    del state['norm1.weight']
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ['norm1.weight'] and not unexpected


def test_model_without_smt_is_loaded_as_before(tmp_path):
    path = tmp_path / 'linear.pth'
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    torch.save({'0.weight': torch.ones(2, 2)}, path)
    load_checkpoint(model, str(path))
    assert (model[0].weight == 1).all()


@pytest.mark.parametrize('name', ['block9.0.x', 'block4.0.x', 'y'])
@pytest.mark.parametrize('stages', [4, 2])
def test_names_of_no_smt_are_unexpected(tmp_path, name, stages):
    state = make().state_dict()
    state[name] = torch.zeros(1)
    path = tmp_path / 'strange.pth'
    torch.save(state, path)
    model = make(out_indices=(stages - 1,))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(weights.CheckpointError, match=f'unexpected: {name}'):
        weights.load_weights(model, path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    with pytest.raises(RuntimeError, match='[Uu]nexpected'):
        model.load_state_dict(state)
