"""Draw labelled images, and the numbers and sizes of objects."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mmsmt.data.files import DataError
from mmsmt.data.images import open_image

from .masks import IGNORED, convert_mask
from .records import Collection, Picture

TILES, SIDE = 12, 320
BARS = 40
"""Number of classes that the picture of counts shows."""


def draw_sheet(collection: Collection, path: Path) -> None:
    """Draw images of all classes with their labels on a sheet.

    Args:
        collection (Collection): The data, split.
        path (Path): File of the picture.
    """
    chosen = _choose(collection)
    columns = min(4, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    legend = _draw_legend(collection.classes, columns * SIDE)
    height = rows * SIDE + legend.height
    sheet = Image.new('RGB', (columns * SIDE, height), 'white')
    sheet.paste(legend, (0, rows * SIDE))
    for i, (split, picture) in enumerate(chosen):
        tile = _draw_tile(collection, picture, split)
        place = i % columns * SIDE, i // columns * SIDE
        sheet.paste(
            tile,
            (
                place[0] + (SIDE - tile.width) // 2,
                place[1] + (SIDE - tile.height) // 2,
            ),
        )
    sheet.save(path)


def _draw_legend(classes: list[str], width: int) -> Image.Image:
    """Draw the names of the classes on their colours, in rows."""
    font = ImageFont.load_default(13)
    places, x, y = [], 6, 6
    for name in classes:
        length = int(font.getlength(name)) + 10
        if x + length > width and x > 6:
            x, y = 6, y + 24
        places.append((x, y))
        x += length + 6
    image = Image.new('RGB', (width, y + 28), 'white')
    draw = ImageDraw.Draw(image)
    for number, (name, (x, y)) in enumerate(zip(classes, places)):
        _write(draw, (x + 5, y + 2), name, colour_of(number), font)
    return image


def colour_of(number: int) -> tuple[int, int, int]:
    """Return the colour of a class, distinct from its neighbours'."""
    from colorsys import hsv_to_rgb

    hue = number * 0.61803398875 % 1  # the golden ratio spreads the hues
    red, green, blue = hsv_to_rgb(hue, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _choose(collection: Collection) -> list[tuple[str, Picture]]:
    """Choose images of both sets that show many classes."""
    chosen: list[tuple[str, Picture]] = []
    for split, count in (('train', TILES * 2 // 3), ('val', TILES // 3)):
        pictures = collection.splits[split]
        seen: set[str] = set()
        ranked: list[tuple] = []
        for picture in pictures:
            new = picture.labels - seen
            seen |= new
            ranked.append((-len(new), not picture.labels, len(ranked)))
        for _, _, i in sorted(ranked)[:count]:
            chosen.append((split, pictures[i]))
    return chosen


def _draw_tile(
    collection: Collection, picture: Picture, split: str
) -> Image.Image:
    try:
        with open_image(picture.path) as opened:
            image = ImageOps.exif_transpose(opened).convert('RGB')
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"'{picture.path}' is damaged: {error}") from error
    full = image.size
    factor = (SIDE - 6) / max(full)
    image = image.resize([max(1, round(side * factor)) for side in full])
    numbers = {name: i for i, name in enumerate(collection.classes)}
    if picture.mask:
        mask = convert_mask(picture.mask, collection.values)
        pixels = np.asarray(mask.resize(image.size, Image.Resampling.NEAREST))
        colours = np.array([colour_of(i) for i in range(256)], np.uint8)
        layer = Image.fromarray(colours[pixels])
        shown = Image.fromarray(
            np.where(pixels == IGNORED, 0, 130).astype(np.uint8)
        )
        image.paste(layer, (0, 0), shown)
    draw = ImageDraw.Draw(image, 'RGBA')
    font = ImageFont.load_default(11)
    for thing in picture.things:
        colour = colour_of(numbers[thing.label])
        x, y, w, h = (value * factor for value in thing.box)
        if isinstance(thing.mask, list):
            for polygon in thing.mask:
                points = [value * factor for value in polygon]
                draw.polygon(points, fill=(*colour, 90), outline=colour)
        draw.rectangle((x, y, x + w, y + h), outline=colour, width=2)
        _write(draw, (x, max(y - 13, 0)), thing.label, colour, font)
    if picture.label is not None:
        colour = colour_of(numbers[picture.label])
        _write(draw, (0, 0), picture.label, colour, font)
    place = (0, image.height - 13)
    _write(draw, place, f'{split}: {picture.path.name}', (60, 60, 60), font)
    return image


def _write(
    draw: Any, place: tuple, text: str, colour: tuple, font: Any
) -> None:
    box = draw.textbbox(place, text, font=font)
    draw.rectangle(box, fill=colour)
    bright = sum(colour) > 380
    draw.text(place, text, fill='black' if bright else 'white', font=font)


def draw_counts(collection: Collection, path: Path) -> None:
    """Draw the number of objects of each class, and their sizes.

    Args:
        collection (Collection): The data, split.
        path (Path): File of the picture.
    """
    import matplotlib
    import matplotlib.ticker

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    counts = _count(collection)
    shown = sorted(
        collection.classes, key=lambda x: -sum(c[x] for c in counts.values())
    )[:BARS]
    sides = [
        math.sqrt(t.box[2] * t.box[3])
        for p in collection.pictures()
        for t in p.things
    ]
    height = max(3.0, 0.28 * len(shown) + 1.2)
    figure, axes = plt.subplots(
        1,
        2 if sides else 1,
        figsize=(11 if sides else 6, height),
        squeeze=False,
        layout='constrained',
    )
    left = np.zeros(len(shown))
    bars = axes[0, 0]
    for split, count in counts.items():
        values = np.array([count[name] for name in shown])
        bars.barh(range(len(shown)), values, left=left, label=split)
        left += values
    bars.set_yticks(range(len(shown)), shown)
    bars.invert_yaxis()
    unit = 'objects' if sides else 'images'
    bars.set_xlabel(f'{unit} of the class')
    if len(collection.classes) > BARS:
        bars.set_title(f'{BARS} of {len(collection.classes)} classes')
    figure.legend(loc='outside upper left', ncols=len(counts))
    if sides:
        sizes = axes[0, 1]
        low, high = max(min(sides), 1), max(max(sides), 2)
        sizes.hist(sides, bins=np.geomspace(low, high * 1.01, 31))
        sizes.set_xscale('log')
        ticks = matplotlib.ticker.FuncFormatter(
            lambda x, _: f'{x:g}' if f'{x:g}'[0] in '1235' else ''
        )
        sizes.xaxis.set_major_formatter(ticks)
        sizes.xaxis.set_minor_formatter(ticks)
        for limit in (32, 96):  # COCO's small, medium, large
            sizes.axvline(limit, color='grey', linestyle=':')
        sizes.set_xlabel(
            'side of the object, pixels (dotted: small, medium, large)'
        )
        sizes.set_ylabel('objects')
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _count(collection: Collection) -> dict[str, Counter]:
    """Count objects, or images of masks and classes, by split and class."""
    counts: dict[str, Counter] = {}
    for split, pictures in collection.splits.items():
        count: Counter = Counter()
        for picture in pictures:
            count.update(thing.label for thing in picture.things)
            if picture.label is not None:
                count[picture.label] += 1
            if picture.mask:
                mask = convert_mask(picture.mask, collection.values)
                present = [i for i, n in enumerate(mask.histogram()) if n]
                count.update(
                    collection.classes[i] for i in present if i != IGNORED
                )
        counts[split] = count
    return counts
