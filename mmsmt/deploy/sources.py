"""Find the pictures to predict on: files, folders, URLs, videos, cameras."""

import glob
import os
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import cv2
import numpy as np

from mmsmt.data.convert.sources import find_files
from mmsmt.data.images import DEEP, SUFFIXES, find_fault
from mmsmt.errors import UserError
from mmsmt.runs.files import tell_apart

VIDEOS = (
    *('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'),
    *('.wmv', '.mts', '.m2ts', '.flv', '.3gp'),
)
STREAMS = ('rtsp', 'rtmp', 'rtp', 'udp', 'tcp', 'mms')
TIMEOUT = 30
"""Seconds that a server may be silent."""
FRAMES = 25.0
"""Frames per second of a video that does not say."""
WHOLE = 0.9
"""Share of its frames that a whole video has, as their number is rough."""


class SourceError(UserError):
    """Error for a source that cannot be found or opened."""


class PictureError(Exception):
    """Error for one picture that cannot be read; the others can.

    Args:
        kind (str): Kind of the fault, of several pictures.
        detail (str): Its detail, of this one.
    """

    def __init__(self, kind: str, detail: str = '') -> None:
        super().__init__(kind + detail)
        self.fault = kind, detail


@dataclass
class Picture:
    """A picture, read when it is needed.

    Args:
        name (str): Relative path of its results, with the input's suffix.
        source (str): File, URL, or frame, for messages.
        read (Callable): Returns its (H, W, 3) uint8 pixels, in BGR order, or
            (H, W) grey ones.
        video (Video, optional): The one it is a frame of.
    """

    name: str
    source: str
    read: Callable[[], np.ndarray]
    video: 'Video | None' = None


@dataclass
class Video:
    """A video file, a stream or a camera.

    Args:
        name (str): Relative path of its results.
        source (str | int): File, URL or number of the camera.
        length (int): Number of frames, 0 if unknown.
        rate (float): Frames per second.
        grey (bool): Yield (H, W) frames.
        lost (int): Frames that could not be read at its end.
    """

    name: str
    source: str | int
    length: int = 0
    rate: float = FRAMES
    grey: bool = False
    lost: int = 0

    @property
    def live(self) -> bool:
        """Return True for a camera or a stream, which has no end."""
        source = self.source
        return isinstance(source, int) or urlparse(source).scheme in STREAMS

    def open(self) -> Any:
        """Open it, and set its length and rate.

        Raises:
            SourceError: OpenCV cannot open it.
        """
        capture = cv2.VideoCapture(self.source)
        if not capture.isOpened():
            kind = 'camera' if isinstance(self.source, int) else 'video'
            raise SourceError(
                f'The {kind} {self.source!r} cannot be opened. OpenCV '
                f'{cv2.__version__} reads it through '
                f'{_video_backends() or "no backend"}.'
            )
        self.length = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else FRAMES
        return capture

    def frames(self) -> Iterator[Picture]:
        """Yield its frames, numbered from 1."""
        try:
            capture = self.open()
        except SourceError as error:
            yield self._lost('videos cannot be opened', f' ({error})')
            return
        number = 0
        try:
            while True:
                found, frame = capture.read()
                if not found:
                    break
                number += 1
                if self.grey:
                    frame = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
                yield Picture(
                    f'{self.name}/{number:06d}.jpg',
                    f'{self.source} frame {number}',
                    partial(_return, frame),
                    self,
                )
        finally:
            capture.release()
        if not number:
            yield self._lost('videos have no frame that can be read')
        elif number < WHOLE * self.length:  # which is an estimate
            self.lost = self.length - number

    def _lost(self, fault: str, detail: str = '') -> Picture:
        """Return a picture whose reading tells a fault of the whole video."""

        def read() -> np.ndarray:
            raise PictureError(fault, detail)

        return Picture(self.name, str(self.source), read, self)


@dataclass
class Reader:
    """Decode images as a config's test pipeline does.

    Args:
        color (str): Flag of ``mmcv.imfrombytes``.
        backend (str, optional): Library that decodes.
        deep (list[str]): Files with 16 bits per channel, as they were read.
    """

    color: str = 'color'
    backend: str | None = 'cv2'
    deep: list[str] = field(default_factory=list)

    def __call__(self, data: bytes) -> np.ndarray:
        """Return (H, W, 3) pixels in BGR order, or (H, W) grey ones.

        Raises:
            PictureError: It is no whole image.
        """
        import mmcv

        try:
            image = mmcv.imfrombytes(
                data, flag=self.color, backend=self.backend
            )
        except Exception as error:  # each library has its own
            raise PictureError(
                'images cannot be decoded', f' ({error})'
            ) from None
        if image is None:
            raise PictureError('images cannot be decoded')
        return image


def find_pictures(
    sources: Sequence[str], reader: Reader
) -> list[Picture | Video]:
    """Find all pictures and videos that sources name.

    Args:
        sources (Sequence[str]): Files, folders, patterns, URLs, and numbers
            of cameras.
        reader (Reader): Decoder of the images.

    Returns:
        list[Picture | Video]: In the order of the sources; files of a folder
        by name, with those of its folders. No two have one name.

    Raises:
        SourceError: A source does not exist, or holds no picture.
    """
    found: list[Picture | Video] = []
    names: set[str] = set()
    items = [item for source in map(str, sources) for item in _expand(source)]
    for name, place in tell_apart(items):
        found.append(_make(_make_unique(name, names), place, reader))
    return found


def count(found: Sequence[Picture | Video]) -> int | None:
    """Count pictures and frames; None if a length is unknown.

    Raises:
        SourceError: A camera or a stream cannot be opened, or the only video.
    """
    total = 0
    for item in found:
        if isinstance(item, Video):
            try:
                item.open().release()
            except SourceError:
                if item.live or len(found) == 1:
                    raise
                total += 1  # is reported when it is read
                continue
            if not item.length:
                return None
            total += item.length
        else:
            total += 1
    return total


def iter_pictures(found: Sequence[Picture | Video]) -> Iterator[Picture]:
    """Yield pictures and the frames of videos."""
    for item in found:
        if isinstance(item, Video):
            yield from item.frames()
        else:
            yield item


def _expand(source: str) -> list[tuple[str, str | int]]:
    """Return relative names and places of the pictures of a source."""
    scheme = urlparse(source).scheme
    if scheme in ('http', 'https', *STREAMS):
        name = PurePosixPath(unquote(urlparse(source).path)).name
        return [(name or 'stream', source)]
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(find_files(path, (*SUFFIXES, *VIDEOS)))
        if not files:
            raise SourceError(
                f"The folder '{source}' holds no image "
                f'({", ".join(SUFFIXES)}) and no video.'
            )
        return [
            (file.relative_to(path).as_posix(), str(file)) for file in files
        ]
    if path.exists():
        return [(path.name, str(path))]
    if source.isdigit():
        return [(f'camera_{source}', int(source))]
    if glob.has_magic(source):
        matches = sorted(glob.glob(str(path), recursive=True))
        files = [Path(match) for match in matches if _is_picture(match)]
        if not files:
            raise SourceError(f"No image and no video matches '{source}'.")
        root = Path(os.path.commonpath([file.parent for file in files]))
        return [
            (file.relative_to(root).as_posix(), str(file)) for file in files
        ]
    raise SourceError(
        f"There is no '{source}'. A source is a file, a folder, a pattern in "
        'quotes, a URL, or the number of a camera.'
    )


def _is_picture(path: str | Path) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    return suffix in (*SUFFIXES, *VIDEOS) and os.path.isfile(path)


def _make_unique(name: str, names: set[str]) -> str:
    """Return a name whose stem none of the names has, and add it.

    Results of an image may have another suffix than the image.
    """
    stem, suffix = os.path.splitext(name)
    chosen, number = stem, 1
    while chosen in names:
        number += 1
        chosen = f'{stem}_{number}'
    names.add(chosen)
    return chosen + suffix


def _make(name: str, place: str | int, reader: Reader) -> Picture | Video:
    grey = reader.color.startswith('gray')
    if isinstance(place, int):
        return Video(name, place, grey=grey)
    parts = urlparse(place)
    path = parts.path if parts.scheme in ('http', 'https') else place
    if parts.scheme in STREAMS or path.lower().endswith(VIDEOS):
        return Video(name, place, grey=grey)
    if parts.scheme in ('http', 'https'):
        return Picture(name, place, lambda: reader(_fetch(place)))
    return Picture(name, place, lambda: _read(place, reader))


def _return(frame: np.ndarray) -> np.ndarray:
    return frame


def _read(path: str, reader: Reader) -> np.ndarray:
    fault = find_fault(path)
    if fault and fault[0] != DEEP:
        raise PictureError(*fault)
    if fault:
        reader.deep.append(path)
    return reader(Path(path).read_bytes())


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            return response.read()
    except (OSError, ValueError, HTTPException) as error:
        raise PictureError('images cannot be fetched', f' ({error})') from None


def _video_backends() -> str:
    registry = cv2.videoio_registry
    return ', '.join(
        registry.getBackendName(backend)
        for backend in registry.getStreamBackends()
    )
