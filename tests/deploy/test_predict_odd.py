"""Predict where names, pictures, models and ends are unusual."""

import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from support.trained import write_model

from mmsmt.deploy import Predictor
from mmsmt.deploy.results import Results
from mmsmt.weights import CheckpointError


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    return write_model('detection', tmp_path_factory.mktemp('detection'))


@pytest.fixture(scope='module')
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('photos')
    generator = np.random.default_rng(0)
    for name in 'abcd':
        pixels = generator.integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{name}.png')
    return folder


def test_models_without_smt_are_loaded_whole(tmp_path):
    """Not with random weights, where the checkpoint is of another model."""
    config, checkpoint = write_model('classification', tmp_path)
    cfg = Config.fromfile(config)
    depth = dict(depth=18, num_stages=4, out_indices=(3,))
    cfg.model.backbone = ConfigDict(type='ResNet', **depth)
    cfg.model.head.in_channels = 512
    with pytest.raises(
        CheckpointError, match='missing: backbone.conv1.weight'
    ):
        Predictor(cfg, checkpoint, device='cpu')
    init_default_scope('mmpretrain')
    settings = dict(cfg.model, data_preprocessor=cfg.data_preprocessor)
    state = MODELS.build(settings).state_dict()
    file = torch.load(checkpoint, weights_only=False)
    torch.save(dict(file, state_dict=state), checkpoint)
    predictor = Predictor(cfg, checkpoint, device='cpu')
    name = 'backbone.layer1.0.conv1.weight'
    assert torch.equal(predictor.model.state_dict()[name], state[name])


@pytest.mark.parametrize(
    'palette', [[(220, 20, 60)], ((1, 2, 3), (4, 5, 6), (7, 8, 9)), 'coco']
)
def test_names_and_colours(detector, photos, palette):
    """A $ begins no formula; palettes of mmdet's tutorial are too short."""
    config, checkpoint = detector
    cfg = Config.fromfile(config)
    file = torch.load(checkpoint, weights_only=False)
    classes = ('US$_1_$bill', '$_x$', '\U00013000')
    file['meta']['dataset_meta']['classes'] = classes
    path = photos.parent / 'named.pth'
    torch.save(file, path)
    cfg.test_dataloader.dataset.metainfo = dict(
        classes=classes, palette=palette
    )
    cfg.pop('visualizer')
    predictor = Predictor(cfg, path, device='cpu')
    (found,) = predictor.predict(photos / 'a.png', threshold=0)
    found.sample.pred_instances.labels[:3] = torch.arange(3)
    assert not predictor.lacks_letters
    assert found.draw().size == (64, 48)
    assert predictor.lacks_letters  # hieroglyphs
    assert len(predictor.palette) == 3
    if isinstance(palette, tuple):
        assert predictor.palette.tolist() == [list(x) for x in palette]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_keep_what_was_predicted(
    detector, photos, tool_of, tmp_path, monkeypatch, number
):
    add = Results.add

    def add_and_stop(self, *args):
        os.kill(os.getpid(), number)  # what is written is finished
        add(self, *args)

    monkeypatch.setattr(Results, 'add', add_and_stop)
    out = tmp_path / 'out'
    status, output = tool_of(
        *('predict', *detector, photos, '--out', out, '--device', 'cpu')
    )
    assert status == 128 + number
    assert f'Stopped by {number.name} after 1 of 4 pictures.' in output
    content = json.loads((out / 'predictions.json').read_text())
    assert [image['file_name'] for image in content['images']] == ['a.png']
    assert cv2.imread(str(out / 'pictures/a.png')).shape == (48, 64, 3)


def test_ctrl_c_ends_a_camera(
    detector, photos, tool_of, tmp_path, monkeypatch
):
    clip = tmp_path / 'clip.avi'
    code = cv2.VideoWriter.fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(clip), code, 10, (64, 48))
    for _ in range(5):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, 'VideoCapture', lambda _: capture(str(clip)))
    add = Results.add

    def add_and_stop(self, *args):
        add(self, *args)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Results, 'add', add_and_stop)
    out = tmp_path / 'out'
    status, output = tool_of(
        *('predict', *detector, 0, '--out', out, '--device', 'cpu')
    )
    assert status == 0 and 'Predicted on 1 frames' in output, output


def test_a_folder_with_what_cannot_be_read(
    detector, photos, tool_of, tmp_path
):
    """Damaged videos are left out; linked folders are read."""
    folder = tmp_path / 'folder'
    (folder / 'b').mkdir(parents=True)
    (folder / 'link').symlink_to(photos)
    (folder / 'b' / 'again').symlink_to(folder)
    (folder / 'a.HEIC').touch()
    (folder / 'b/empty.avi').touch()
    clip = folder / 'b' / 'broken.avi'
    code = cv2.VideoWriter.fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(clip), code, 10, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = clip.read_bytes()
    begin = data.index(b'movi') + 4
    clip.write_bytes(data[:begin] + bytes(len(data) - begin))
    out = tmp_path / 'out'
    status, output = tool_of(
        *('predict', *detector, folder, '--out', out, '--batch', 4),
        *('--device', 'cpu'),
    )
    assert status == 1 and 'Predicted on 4 images' in output, output
    assert '2 pictures were left out' in output
    assert f"videos cannot be opened: '{folder / 'b/empty.avi'}'" in output
    assert f"no frame that can be read: '{clip}'" in output
    assert '1 files end in .heic and are left out' in output
    content = json.loads((out / 'predictions.json').read_text())
    names = [image['file_name'] for image in content['images']]
    assert names == [f'link/{name}.png' for name in 'abcd']
    status, output = tool_of(
        'predict', *detector, clip.with_name('empty.avi'), '--out', out / 'b'
    )
    assert status == 1 and 'cannot be opened. OpenCV' in output


def test_a_segmenter_of_one_channel(photos, tool_of, tmp_path):
    """mmseg gives floats for a sigmoid and a threshold."""
    config, checkpoint = write_model('segmentation', tmp_path)
    cfg = Config.fromfile(config)
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.update(num_classes=2, out_channels=1, threshold=0.5)
        head.loss_decode = loss
    classes = ('background', 'road')
    cfg.test_dataloader.dataset.metainfo = dict(classes=classes)
    cfg.pop('visualizer')
    cfg.dump(config)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    settings = dict(cfg.model, data_preprocessor=cfg.data_preprocessor)
    model = MODELS.build(settings)
    meta = dict(dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    out = tmp_path / 'out'
    status, output = tool_of(
        *('predict', config, checkpoint, photos / 'a.png', '--out', out)
    )
    assert status == 0, output
    (found,) = Predictor(config, checkpoint).predict(photos / 'a.png')
    probability = found.sample.seg_logits.data[0].numpy()  # by the host
    assert (found.class_map == (probability > 0.5)).all()
    with Image.open(out / 'masks/a.png') as image:
        assert (np.asarray(image) == found.class_map).all()
    likelier = classes[int(found.class_map.mean() > 0.5)]
    status, output = tool_of(
        *('figures', config, checkpoint, photos / 'a.png'),
        *('--figures', 'cam', '--out', tmp_path / 'cam'),
    )
    assert status == 0, output
    assert f'>{likelier}<' in (tmp_path / 'cam/cam.svg').read_text()
