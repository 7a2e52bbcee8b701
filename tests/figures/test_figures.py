"""The paper's figures, of small models of each host."""

import csv
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, init_default_scope
from PIL import Image
from support.small import ARCH
from support.trained import CLASSES, write_model

from mmsmt import SMT
from mmsmt.figures.activation import find_activation
from mmsmt.figures.recording import record, relative_fields
from mmsmt.figures.study import FigureError, Study
from mmsmt.models.arch import Arch

NAMES = ('4a', '4b', '5', '7', '8', '9')


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Two images of different sizes."""
    folder = tmp_path_factory.mktemp('photos')
    generator = np.random.default_rng(0)
    for name, width in {'a.jpg': 70, 'b $x$.png': 50}.items():
        pixels = generator.integers(0, 255, (48, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """The config and the checkpoint of each task."""
    folder = tmp_path_factory.mktemp('models')
    return {task: write_model(task, folder) for task in CLASSES}


def read_svg(path):
    return ''.join(ElementTree.parse(path).getroot().itertext())


@pytest.mark.parametrize('height, width', [(3, 4), (1, 5), (1, 1)])
def test_relative_fields_by_hand(height, width, monkeypatch):
    """As defined, token by token; in several parts, too."""
    length = height * width
    generator = torch.Generator().manual_seed(0)
    q, k = 3 * torch.randn(2, 2, length, 8, generator=generator)
    scores = (q @ k.transpose(1, 2) / 8**0.5).softmax(dim=2)
    places = [(i // width, i % width) for i in range(length)]
    expected = torch.zeros(2, 2)
    for head in range(2):
        for i, (y, x) in enumerate(places):
            sequence = [abs(i - j) for j in range(length)]
            plane = [((y - b) ** 2 + (x - a) ** 2) ** 0.5 for b, a in places]
            for part, distances in enumerate((sequence, plane)):
                weighted = scores[head, i] @ torch.tensor(distances).float()
                expected[head, part] += weighted / max(max(distances), 1)
    expected /= length
    torch.testing.assert_close(relative_fields(q, k, height, width), expected)
    monkeypatch.setattr('mmsmt.figures.recording.SCORES', 5 * length)
    torch.testing.assert_close(relative_fields(q, k, height, width), expected)


def test_record_follows_the_equations():
    """Eq. 1 and 2 of the block's own input, and attention of its Q and K."""
    model = SMT(ARCH).eval()
    model.init_weights()
    seen = {}
    sam, msa = model.block2[0].attn, model.block4[0].attn
    handles = [
        mixer.register_forward_pre_hook(
            lambda mixer, args: seen.update({mixer: args[0]})
        )
        for mixer in (sam, msa)
    ]
    found = record(model, torch.rand(1, 3, 64, 96))
    for handle in handles:
        handle.remove()
    assert not any(
        m._forward_hooks or m._forward_pre_hooks for m in model.modules()
    )
    (modulation,) = [x for x in found.modulations if x.stage == 2]
    assert modulation.kernels == (3, 5, 7, 9)
    with torch.no_grad():
        x = sam.s(seen[sam].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        heads = [
            conv(part) for conv, part in zip(sam.mhmc.convs, x.chunk(4, 1))
        ]
        groups = torch.stack(heads, dim=2).flatten(1, 2)
        modulator = sam.saa.inter(
            sam.saa.act(sam.saa.bn(sam.saa.intra(groups)))
        )
        tokens = seen[msa].flatten(2).transpose(1, 2)
        q, k = msa.q(tokens), msa.kv(tokens)[..., : ARCH['embed_dims'][3]]
        q, k = (
            x[0].unflatten(1, (msa.num_heads, -1)).transpose(0, 1)
            for x in (q, k)
        )
    for head, expected in zip(modulation.heads, heads):
        torch.testing.assert_close(head, expected[0].norm(dim=0))
    whole = torch.cat(heads, 1)[0].norm(dim=0)
    torch.testing.assert_close(modulation.before, whole)
    torch.testing.assert_close(modulation.after, modulator[0].norm(dim=0))
    assert [(x.stage, x.layer) for x in found.fields] == [(3, 2), (4, 1)]
    expected = relative_fields(q, k, 2, 3)
    torch.testing.assert_close(found.fields[-1].fields, expected)


def test_activation_of_a_classifier(models, photos):
    """That of Grad-CAM: channels weighted by mean gradients of the logit."""
    import cv2

    config, checkpoint = models['classification']
    study = Study(Config.fromfile(config), str(checkpoint), 'cpu')
    image = cv2.imread(str(photos / 'a.jpg'))
    prepared = study.predictor.prepare(image)
    study.add('a', prepared, blocks=False, name='fly')
    ((label, cam),) = study.activations
    assert label == 'fly'
    model, predictor = study.predictor.model, study.predictor
    data = predictor.collate([predictor.prepare(image)])
    kept = {}
    handle = model.backbone.norm4.register_forward_hook(
        lambda module, args, out: kept.update(map=out)
    )
    logits = model(model.data_preprocessor(data)['inputs'], mode='tensor')
    handle.remove()
    (gradient,) = torch.autograd.grad(
        logits[0, predictor.classes.index('fly')], kept['map']
    )
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    expected = (weights * kept['map']).sum(dim=1)[0].relu()
    assert expected.max() > 0
    torch.testing.assert_close(cam, expected / expected.max())


def test_command(models, photos, tool_of, tmp_path, monkeypatch):
    """All figures of saved and random weights, beside each other."""
    monkeypatch.setattr('mmsmt.figures.drawing.DPI', 40)
    config, checkpoint = models['detection']
    out = tmp_path / 'figures'
    command = ['figures', config, checkpoint, photos, '--out', out]
    command += ['--compare', config, 'random', '--images', 1]
    status, output = tool_of(*command)
    assert status == 0, output
    stems = [f'figure_{name}' for name in NAMES] + ['cam']
    files = {f'{stem}.{kind}' for stem in stems for kind in ('png', 'svg')}
    assert {x.name for x in out.iterdir()} == files | {'figure_7.csv'}
    for stem in stems:
        with Image.open(out / f'{stem}.png') as picture:
            assert np.asarray(picture.convert('L')).std() > 5, stem
        text = read_svg(out / f'{stem}.svg')
        assert 'detection, detection.pth' in text, stem
        assert 'detection, random weights' in text, stem
    with open(out / 'figure_7.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    heads = Arch(**ARCH).msa_heads
    assert [(row['stage'], row['head']) for row in rows] == 2 * [
        (str(3 + i), str(j + 1)) for i in (0, 1) for j in range(heads[i])
    ]
    assert all(0 <= float(row['sequence']) <= 1 for row in rows)
    status, output = tool_of(*command)
    assert status == 1 and 'exists: give a new folder' in output


def test_activation_of_a_dense_head(photos):
    """mmdet detaches its scores; the map needs their gradient."""
    import cv2
    from support.configs import build, load

    cfg = load('retinanet_smt_s_3x')
    cfg.model.backbone.update(arch=ARCH, init_cfg=None)
    cfg.model.neck.in_channels = list(ARCH['embed_dims'])
    init_default_scope('mmdet')
    model = build(cfg).eval()
    torch.nn.init.constant_(model.bbox_head.retina_cls.bias, 1.0)
    model.dataset_meta = dict(classes=range(80))
    image = cv2.resize(cv2.imread(str(photos / 'a.jpg')), (64, 64))
    sample = TRANSFORMS.build(dict(type='mmdet.PackDetInputs'))(
        dict(
            img=image,
            img_shape=(64, 64),
            ori_shape=(64, 64),
            scale_factor=(1.0, 1.0),
            img_id=0,
            img_path='',
        )
    )
    seen = model.data_preprocessor(
        dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    )
    found = find_activation(model, model.backbone, 'detection', seen)
    assert found is not None and found[1].max() > 0


@pytest.mark.parametrize('task', ['segmentation', 'classification'])
def test_activations_of_each_task(task, models, photos, tool_of, tmp_path):
    out = tmp_path / 'figures'
    command = ['figures', *models[task], photos, '--out', out]
    status, output = tool_of(*command, '--figures', 'cam')
    assert status == 0, output
    text = read_svg(out / 'cam.svg')
    assert any(name in text for name in CLASSES[task])
    assert 'b $x$.png' in text  # not a formula
    assert len(list(out.iterdir())) == 2


def test_errors(models, photos, tool_of, tmp_path):
    config, checkpoint = models['classification']
    cfg = Config.fromfile(config)
    data = dict(inputs=torch.zeros(3, 64, 64))
    with pytest.raises(FigureError, match="'cow' is not one of ant, bee"):
        Study(cfg, 'random', 'cpu').add('a', data, name='cow')
    exported = tmp_path / 'model.onnx'
    exported.touch()
    with pytest.raises(FigureError, match='an exported file'):
        Study(cfg, str(exported))
    other = Config.fromfile(config)
    other.model.backbone = dict(type='mmpretrain.ResNet', depth=18)
    other.model.head.in_channels = 512
    with pytest.raises(FigureError, match='is ResNet, not SMT'):
        Study(other, 'random', 'cpu')
    grey = Config.fromfile(config)
    grey.model.backbone.in_channels = 1
    study = Study(grey, 'random', 'cpu')
    with pytest.raises(FigureError, match='of 1 channels, and these have 3'):
        study.add('a', study.predictor.prepare(np.zeros((48, 48, 3), 'u1')))
    bad = tmp_path / 'bad.png'
    bad.write_bytes(b'no image')
    command = ['figures', config, 'random', bad, '--out', tmp_path / 'out']
    status, output = tool_of(*command)
    assert status == 1 and 'No image could be read' in output
    assert f"'{bad}': images cannot be read as images" in output
    assert not (tmp_path / 'out').exists()
    command[3:4] = [photos / 'a.jpg', bad]
    status, output = tool_of(*command, '--figures', '9')
    assert status == 1 and 'figure_9.png' in output


def test_missing_blocks_are_reported(models, photos, tool_of, tmp_path):
    """A backbone of two stages has no stage 3."""
    config = tmp_path / 'short.py'
    config.write_text(
        f'_base_ = ["{models["classification"][0]}"]\n'
        'model = dict(backbone=dict(out_indices=(1, )), head=dict('
        f'in_channels={ARCH["embed_dims"][1]}))\n'
    )
    out = tmp_path / 'out'
    status, output = tool_of('figures', config, 'random', photos, '--out', out)
    assert status == 0, output
    assert 'Figure 7 is not drawn: there is no MSA block.' in output
    assert 'Figure 8 is not drawn: stage 3 has no SAM block.' in output
    assert (out / 'figure_9.svg').exists()
