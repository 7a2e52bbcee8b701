"""Pictures of files, folders, patterns, URLs, videos and cameras."""

import functools
import http.server
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from mmsmt.deploy.sources import (
    PictureError,
    Reader,
    SourceError,
    Video,
    count,
    find_pictures,
    iter_pictures,
)


def write(path, shade=90, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (shade, 0, 0)).save(path)
    return path


def names(*sources):
    return [item.name for item in find_pictures(sources, Reader())]


@pytest.fixture
def folder(tmp_path):
    for name in ('b.png', 'a/b.jpg', 'a/c.JPG', '.git/d.png', 'a/.e.png'):
        write(tmp_path / 'photos' / name)
    (tmp_path / 'photos/notes.txt').write_text('no picture')
    return tmp_path / 'photos'


def test_folders_and_patterns(folder, tmp_path):
    assert names(str(folder)) == ['a/b.jpg', 'a/c.JPG', 'b.png']
    assert names(f'{folder}/**/*.[jJ]*') == ['b.jpg', 'c.JPG']
    assert names(f'{folder}/*/b.*') == ['b.jpg']
    write(folder / 'odd[1].png')
    assert names(f'{folder}/odd[1].png') == ['odd[1].png']  # no pattern
    # Results of b.png and b.jpg are not written over each other.
    assert names(folder / 'b.png', folder / 'a/b.jpg') == ['b.png', 'a/b.jpg']
    write(folder / 'a/b.bmp')
    assert names(folder / 'a') == ['b.bmp', 'b_2.jpg', 'c.JPG']
    # As a shell expands day1/*.jpg day2/*.jpg:
    days = [write(tmp_path / f'{x}/{i}.png') for x in 'pq' for i in (1, 2)]
    assert names(*days) == ['p/1.png', 'p/2.png', 'q/1.png', 'q/2.png']
    assert names(tmp_path / 'p', tmp_path / 'q') == names(*days)
    assert names('0') == ['camera_0']
    (tmp_path / 'none').mkdir()
    for source, words in {
        tmp_path / 'none': 'holds no image',
        f'{folder}/*.gif': 'No image and no video matches',
        folder / 'z.png': 'There is no',
    }.items():
        with pytest.raises(SourceError, match=words):
            names(str(source))


def test_pixels_are_as_displayed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new('RGB', (12, 10), (200, 0, 0)).save(
        tmp_path / 'a.jpg', exif=exif, quality=100
    )
    Image.new('L', (12, 10), 77).save(tmp_path / 'b.png')
    first, second = find_pictures([str(tmp_path)], Reader())
    image = first.read()
    assert image.shape == (12, 10, 3)
    assert image[0, 0, 2] > 190 and image[0, 0, 0] < 10  # BGR
    assert (second.read() == 77).all() and second.read().shape[2] == 3


@pytest.mark.parametrize('kind', ['empty', 'cut off', 'cannot be read'])
def test_damaged_images(tmp_path, kind):
    path = write(tmp_path / 'a.jpg', size=(64, 64))
    data = path.read_bytes()
    half = data[:-30]
    path.write_bytes({'empty': b'', 'cut off': half}.get(kind, b'text'))
    (picture,) = find_pictures([str(path)], Reader())
    with pytest.raises(PictureError, match=kind):
        picture.read()


def test_urls(folder):
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(folder)
    )
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f'http://127.0.0.1:{server.server_port}'
        found = find_pictures([f'{root}/b.png?x=1', f'{root}/z.png'], Reader())
        assert [item.name for item in found] == ['b.png', 'z.png']
        assert found[0].read().shape == (10, 12, 3)
        with pytest.raises(PictureError, match='cannot be fetched .*404'):
            found[1].read()
        server.shutdown()


def open_longer(self, whole=Video.open):
    capture = whole(self)
    self.length = 900
    return capture


def test_16_bits_are_noted(tmp_path):
    Image.new('I;16', (12, 10), 900).save(tmp_path / 'a.png')
    reader = Reader()
    (picture,) = find_pictures([str(tmp_path)], reader)
    assert picture.read().shape == (10, 12, 3)
    assert reader.deep == [str(tmp_path / 'a.png')]


def test_videos(tmp_path, monkeypatch):
    path = tmp_path / 'clip.mp4'
    code = cv2.VideoWriter.fourcc(*'mp4v')
    writer = cv2.VideoWriter(str(path), code, 10, (64, 48))
    for shade in (0, 120, 240):
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    found = find_pictures([str(tmp_path)], Reader())
    assert count(found) == 3 and isinstance(found[0], Video)
    frames = list(iter_pictures(found))
    assert [frame.name for frame in frames] == [
        f'clip.mp4/{i:06d}.jpg' for i in (1, 2, 3)
    ]
    assert frames[0].video.rate == 10
    assert abs(int(frames[1].read().mean()) - 120) < 5  # read later
    assert not frames[0].video.lost
    (grey,) = find_pictures([str(path)], Reader('grayscale'))
    (first, *_) = grey.frames()
    assert first.read().shape == (48, 64)
    monkeypatch.setattr(Video, 'open', open_longer)
    (damaged,) = find_pictures([str(path)], Reader())
    assert len(list(damaged.frames())) == 3 and damaged.lost == 897
    monkeypatch.undo()
    path.write_bytes(b'text')
    with pytest.raises(SourceError, match='cannot be opened. OpenCV'):
        count(find_pictures([str(path)], Reader()))
