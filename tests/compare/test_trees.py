"""Tiles of photographs with boxes, from a wheel of the package's form."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from mmsmt.compare.trees import PHOTOGRAPHS

pytestmark = pytest.mark.one_stack

# In a photograph of 150 x 70: two trees apart, one across columns 60 to 80.
TREES = [(10, 10, 30, 30), (60, 20, 80, 40), (120, 40, 140, 69)]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    path = tmp_path_factory.mktemp('wheel') / 'deepforest.whl'
    pixels = np.zeros((70, 150, 3), np.uint8)
    for x1, y1, x2, y2 in TREES:
        pixels[y1:y2, x1:x2] = 200
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, 'PNG')
    objects = ''.join(
        '<object><name>Tree</name><bndbox>'
        + ''.join(
            f'<{name}>{value}</{name}>'
            for name, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box)
        )
        + '</bndbox></object>'
        for box in TREES
    )
    with zipfile.ZipFile(path, 'w') as archive:
        for name in PHOTOGRAPHS.values():
            archive.writestr(f'deepforest/data/{name}.png', stream.getvalue())
            archive.writestr(
                f'deepforest/data/{name}.xml',
                f'<annotation>{objects}</annotation>',
            )
    return path


def test_tiles(wheel, tmp_path, tool_of):
    """Each tree once in the validation, and boxes where the pixels are."""
    out = tmp_path / 'trees'
    line = ['trees', '--out', out, '--wheel', wheel, '--size', 64]
    status, output = tool_of(*line)
    assert status == 0, output
    found = json.loads((out / 'val.json').read_text())
    sizes = [
        (i['file_name'], i['width'], i['height']) for i in found['images']
    ]
    assert sizes == [('0000_0000.png', 64, 64), ('0064_0000.png', 64, 64)]
    boxes = [
        (a['image_id'], a['bbox'], a['iscrowd']) for a in found['annotations']
    ]
    assert boxes == [
        (1, [10, 10, 20, 20], 0),
        (1, [60, 20, 4, 20], 1),  # a fifth of the tree
        (2, [0, 20, 16, 20], 0),
        (2, [56, 40, 8, 24], 1),
    ]
    assert 'val: 2 tiles, 2 trees' in output
    for note in found['annotations']:
        name = found['images'][note['image_id'] - 1]['file_name']
        x, y, w, h = map(int, note['bbox'])
        part = np.asarray(Image.open(out / 'val' / name))[y : y + h, x : x + w]
        assert part.min() == 200
    train = json.loads((out / 'train.json').read_text())
    assert len(train['images']) == 3  # half a tile apart
    status, output = tool_of(*line)
    assert status == 1 and 'exists: give a new folder' in output


def test_another_file(tmp_path, tool_of):
    other = tmp_path / 'other.whl'
    with zipfile.ZipFile(other, 'w') as archive:
        archive.writestr('readme', '')
    for wheel in (other, tmp_path / 'missing.whl'):
        status, output = tool_of(
            'trees', '--out', tmp_path / 'trees', '--wheel', wheel
        )
        assert status == 1
        assert f"'{wheel}' is not the wheel of deepforest" in output
