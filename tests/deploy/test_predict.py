"""Predict with small models of each host."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO
from support.trained import CLASSES, write_model

from mmsmt.deploy import Predictor
from mmsmt.deploy.predictor import PredictError
from mmsmt.deploy.sources import find_pictures, iter_pictures
from mmsmt.weights import CheckpointError


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Three images, two of them of one size."""
    folder = tmp_path_factory.mktemp('photos')
    generator = np.random.default_rng(0)
    for name, size in {'a.jpg': 64, 'b/c.png': 64, 'd.png': 50}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        pixels = generator.integers(0, 255, (48, size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """The config and the checkpoint of a task, each made once."""
    made = {}

    def make(task):
        if task not in made:
            made[task] = write_model(task, tmp_path_factory.mktemp(task))
        return made[task]

    return make


def test_detection_command(model, photos, tool_of, tmp_path):
    """Files, a damaged image and a video; boxes and masks as predicted."""
    clip = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(
        str(clip), cv2.VideoWriter.fourcc(*'MJPG'), 10, (64, 48)
    )
    for shade in range(3):
        writer.write(np.full((48, 64, 3), 80 * shade, np.uint8))
    writer.release()
    bad = tmp_path / 'bad.png'
    bad.touch()
    out = tmp_path / 'out'
    command = ['predict', *model('detection'), photos, clip, bad]
    command += ['--out', out, '--threshold', 0, '--device', 'cpu']
    status, output = tool_of(*command)
    assert status == 1 and '1 pictures were left out' in output
    assert f"1 of 1 images are empty files: '{bad}'" in output
    assert 'Predicted on 3 images and 3 frames' in output
    coco = COCO(str(out / 'predictions.json'))
    images = [image['file_name'] for image in coco.dataset['images']]
    frames = [f'clip.avi/{i:06d}.jpg' for i in (1, 2, 3)]
    assert images == ['a.jpg', 'b/c.png', 'd.png', *frames]
    names = [x['name'] for x in coco.dataset['categories']]
    assert tuple(names) == CLASSES['detection']
    pictures = {
        path.relative_to(out / 'pictures').as_posix()
        for path in (out / 'pictures').rglob('*.*')
    }
    assert pictures == {'a.jpg', 'b/c.png', 'd.png', 'clip.mp4'}
    assert cv2.imread(str(out / 'pictures/a.jpg')).shape == (48, 64, 3)
    video = cv2.VideoCapture(str(out / 'pictures/clip.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    predictor = Predictor(*model('detection'), device='cpu')
    (first,) = predictor.predict(photos / 'a.jpg', threshold=0)
    notes = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert len(notes) == len(first.boxes) == 5
    for note, box, mask, name, score in zip(
        notes, first.boxes, first.masks, first.names, first.scores
    ):
        x, y, w, h = note['bbox']
        np.testing.assert_allclose((x, y, x + w, y + h), box, atol=0.02)
        assert (coco.annToMask(note) == mask).all()
        assert names[note['category_id'] - 1] == name
        assert abs(note['score'] - score) < 1e-4
    places = [image['source'] for image in coco.dataset['images']]
    assert places[:2] == [str(photos / 'a.jpg'), str(photos / 'b/c.png')]
    assert places[3] == f'{clip} frame 1'
    status, output = tool_of(*command)
    assert status == 1 and 'exists: give a new folder' in output
    command[command.index(out)] = photos / 'new'
    status, output = tool_of(*command)
    assert status == 2 and f"must be outside of '{photos}'" in output


def test_agrees_with_the_host_in_any_batch(model, photos):
    """Images of other sizes are not padded together."""
    from mmdet.apis import DetInferencer

    config, checkpoint = model('detection')
    predictor = Predictor(config, checkpoint, device='cpu')
    host = DetInferencer(str(config), str(checkpoint), device='cpu')
    files = sorted(map(str, photos.rglob('*.*')))
    expected = [host(x, no_save_vis=True)['predictions'][0] for x in files]
    found = predictor.predict(files, threshold=0, batch=3)
    assert [x.name for x in found] == ['a.jpg', 'c.png', 'd.png']
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one.boxes, other['bboxes'], atol=1e-3)
        np.testing.assert_allclose(one.scores, other['scores'], atol=1e-5)
        assert list(one.labels) == other['labels']
    few = predictor.predict(files[0], threshold=float(found[0].scores[2]))
    assert len(few[0].boxes) == 3
    with pytest.raises(AttributeError):
        _ = found[0].class_map


def test_segmentation_command(model, photos, tool_of, tmp_path):
    out, thin = tmp_path / 'out', tmp_path / 'thin.png'
    Image.new('RGB', (600, 20)).save(thin)
    Image.new('RGB', (9000, 20)).save(tmp_path / 'thinner.png')
    status, output = tool_of(
        *('predict', *model('segmentation'), photos, thin),
        *(tmp_path / 'thinner.png', '--out', out),
    )
    assert status == 1 and ' pixels' in output
    assert (
        f"a side below 32 pixels after the test pipeline: '{thin}'" in output
    )
    assert 'images fail in the test pipeline' in output
    assert 'Predicted on 3 images' in output
    predictor = Predictor(*model('segmentation'), device='cpu')
    (first,) = predictor.predict(photos / 'b/c.png')
    with Image.open(out / 'masks/b/c.png') as image:
        assert image.mode == 'P'
        assert (np.asarray(image) == first.class_map).all()
    assert first.class_map.shape == (48, 64)
    assert first.draw().size == (64, 48)
    assert (out / 'pictures/b/c.png').is_file()
    assert not (out / 'predictions.json').exists()


def test_classification_command(model, photos, tool_of, tmp_path):
    out = tmp_path / 'out'
    status, output = tool_of(
        *('predict', *model('classification'), photos, '--out', out),
        *('--no-pictures', '--batch', 2, '--amp', '--frames', 2),
    )
    assert status == 0 and 'Predicted on 2 images' in output
    assert not (out / 'pictures').exists()
    with open(out / 'predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['file'] for row in rows] == ['a.jpg', 'b/c.png']
    assert rows[0]['source'] == str(photos / 'a.jpg')
    predictor = Predictor(*model('classification'), device='cpu', amp=True)
    (first,) = predictor.predict(photos / 'a.jpg')
    assert [rows[0][f'class{i}'] for i in range(1, 6)] == first.names
    assert abs(float(rows[0]['score1']) - first.scores[0]) < 1e-3
    assert sorted(first.scores, reverse=True) == list(first.scores)
    assert first.draw().size[0] >= 64


def test_pictures_that_need_too_much_memory(model, photos, monkeypatch):
    predictor = Predictor(*model('detection'), device='cpu')
    forward = predictor._inferencer.forward

    def refuse(data):
        if data['data_samples'][0].ori_shape[1] == 50:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(data)

    monkeypatch.setattr(predictor._inferencer, 'forward', refuse)
    found = find_pictures([str(photos)], predictor.reader)
    skipped = []
    stream = predictor.stream(
        iter_pictures(found), skip=lambda *args: skipped.append(args)
    )
    assert len(list(stream)) == 2
    ((picture, error),) = skipped
    assert picture.name == 'd.png' and '(50x48)' in str(error)
    with pytest.raises(RuntimeError, match='allocate memory'):
        list(predictor.stream(iter_pictures(found)))


def test_a_full_disk(model, photos, tool_of, tmp_path, monkeypatch):
    """Keep what was predicted, and say in one message what failed."""
    out = tmp_path / 'out'
    write = Path.write_bytes

    def write_one(self, data):
        if self.name != 'a.jpg':
            write(self, data[:9])
            raise OSError(28, 'No space left on device')
        return write(self, data)

    monkeypatch.setattr(Path, 'write_bytes', write_one)
    status, output = tool_of(
        *('predict', *model('detection'), photos, '--out', out),
        *('--threshold', 0, '--device', 'cpu'),
    )
    assert status == 1 and 'No space left on device' in output
    assert 'Traceback' not in output
    content = json.loads((out / 'predictions.json').read_text())
    assert content['images'][0]['file_name'] == 'a.jpg'
    assert not (out / 'pictures/b/c.png').exists()


def test_grey_pictures_are_drawn(model, photos):
    predictor = Predictor(*model('detection'), device='cpu')
    (found,) = predictor.predict(photos / 'a.jpg', threshold=1)
    grey = np.zeros((48, 64), np.uint8)
    grey[:, :32] = 200
    found.image = grey
    pixels = predictor.draw(found)
    assert pixels[..., :32, :].mean() > 150 > 50 > pixels[..., 32:, :].mean()


def test_what_cannot_predict(model, photos, tmp_path):
    config, checkpoint = model('detection')
    cfg = Config.fromfile(config)
    file = torch.load(checkpoint, weights_only=False)
    del file['state_dict']['backbone.norm4.weight']
    torch.save(file, tmp_path / 'part.pth')
    with pytest.raises(CheckpointError, match=r'norm4\.weight'):
        Predictor(cfg, tmp_path / 'part.pth', device='cpu')
    with pytest.raises(CheckpointError, match='There is no checkpoint'):
        Predictor(cfg, tmp_path / 'none.pth')
    with pytest.raises(PredictError, match="'cuda:99' cannot be used"):
        Predictor(cfg, checkpoint, device='cuda:99')
    cfg.test_dataloader = None
    with pytest.raises(PredictError, match='has no test_dataloader'):
        Predictor(cfg, checkpoint)


def test_classes_are_those_of_the_checkpoint(model, photos, tmp_path):
    """Not COCO's, which mmdet takes for a file without any."""
    config, checkpoint = model('detection')
    file = torch.load(checkpoint, weights_only=False)
    file['meta'] = {}
    torch.save(file, tmp_path / 'old.pth')
    predictor = Predictor(config, tmp_path / 'old.pth', device='cpu')
    assert predictor.classes == CLASSES['detection']
    cfg = Config.fromfile(config)
    del cfg.test_dataloader.dataset['metainfo']
    with pytest.raises(Exception, match='the data has 80 classes'):
        Predictor(cfg, tmp_path / 'old.pth', device='cpu')
    assert json.dumps(predictor.classes)
