"""Draw small pictures of truth and prediction, as data URLs."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mmsmt.data.images import open_image

from .detection import ImageResult

SIDE = 400
"""Longer side of a picture in pixels."""
RIGHT, WRONG, TRUTH = (40, 170, 80), (225, 60, 50), (60, 120, 230)


def draw_detection(
    result: ImageResult, names: Sequence[str]
) -> tuple[str, str] | None:
    """Draw an image twice: with its objects, and with what was found.

    Args:
        result (ImageResult): The image.
        names (Sequence[str]): Names of the classes.

    Returns:
        tuple[str, str]: Data URLs; None if the image cannot be read.
    """
    image, scale = _open(result.file)
    if image is None:
        return None
    left, right = image, image.copy()
    for box, label in result.truth:
        _draw_box(left, box, scale, names[label], TRUTH)
    for box, label, score, kind in reversed(result.found):
        text = f'{names[label]} {score:.2f}'
        _draw_box(right, box, scale, text, WRONG if kind else RIGHT)
    return _encode(left), _encode(right)


def draw_class_maps(
    record: dict, folder: Path, colours: np.ndarray
) -> tuple[str, str] | None:
    """Draw an image with the classes of its truth, and of its prediction.

    Args:
        record (dict): Of the stored predictions, with maps.
        folder (Path): Folder of the stored maps.
        colours (np.ndarray): (C, 3) colours of the classes.
    """
    image, _ = _open(record['file'])
    if image is None:
        return None
    pictures = []
    for name in record['maps']:
        try:
            with Image.open(folder / name) as file:
                values = np.asarray(file)
        except OSError:
            return None
        known = values < len(colours)
        shades = np.zeros((*values.shape[:2], 3), np.uint8)
        shades[known] = colours[values[known]]
        overlay = Image.fromarray(shades).resize(image.size, 0)
        pictures.append(_encode(Image.blend(image, overlay, 0.6)))
    return pictures[0], pictures[1]


def draw_image(path: str) -> str | None:
    """Return an image as it is; None if it cannot be read."""
    image, _ = _open(path)
    return None if image is None else _encode(image)


def _open(path: str | None) -> tuple[Image.Image | None, float]:
    try:
        with open_image(path) as file:
            image = ImageOps.exif_transpose(file).convert('RGB')
    except (OSError, ValueError, AttributeError):
        return None, 1.0
    scale = min(1.0, SIDE / max(image.size))
    size = [max(1, round(side * scale)) for side in image.size]
    return image.resize((size[0], size[1])), scale


def _draw_box(
    image: Image.Image,
    box: Sequence[float],
    scale: float,
    text: str,
    colour: tuple[int, int, int],
) -> None:
    draw = ImageDraw.Draw(image)
    x, y, w, h = (value * scale for value in box)
    corners = (x, y, max(x, x + w), max(y, y + h))
    draw.rectangle(corners, outline=colour, width=2)
    font = ImageFont.load_default(size=11)
    area = draw.textbbox((x, max(0, y - 13)), text, font=font)
    draw.rectangle(area, fill=colour)
    draw.text(area[:2], text, fill='white', font=font, anchor='lt')


def _encode(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, 'JPEG', quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'data:image/jpeg;base64,{data}'
