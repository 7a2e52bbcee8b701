"""Write scenes of real handwritten digits in the layouts of large datasets.

scikit-learn carries 1,797 digits of 8 x 8 pixels (the test half of the UCI
"Optical Recognition of Handwritten Digits"). They are enlarged, rotated,
coloured and placed on textured backgrounds, later ones over earlier ones, so
that boxes, instance masks and semantic maps are known exactly. Nothing is
downloaded.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from tqdm import tqdm

STAMP = 'digits.json'
FILES = 'files'
NUM_VAL_DIGITS = 397
"""Number of the 1,797 digits that are reserved for validation scenes."""

# COCO's 80 category ids and names, in order; the digits take the first ten.
COCO_IDS = [
    i
    for i in range(1, 91)
    if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
]
COCO_NAMES = (
    'person bicycle car motorcycle airplane bus train truck boat '
    'traffic_light fire_hydrant stop_sign parking_meter bench bird cat dog '
    'horse sheep cow elephant bear zebra giraffe backpack umbrella handbag '
    'tie suitcase frisbee skis snowboard sports_ball kite baseball_bat '
    'baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup '
    'fork knife spoon bowl banana apple sandwich orange broccoli carrot '
    'hot_dog pizza donut cake chair couch potted_plant bed dining_table '
    'toilet tv laptop mouse remote keyboard cell_phone microwave oven toaster '
    'sink refrigerator book clock vase scissors teddy_bear hair_drier '
    'toothbrush'
)

# The first ten ImageNet-1K classes, in their (alphabetical) order.
IMAGENET_WNIDS = (
    'n01440764',
    'n01443537',
    'n01484850',
    'n01491361',
    'n01494475',
    'n01496331',
    'n01498041',
    'n01514668',
    'n01514859',
    'n01518878',
)


@dataclass
class Instance:
    """A digit in a scene.

    Args:
        digit (int): Class of the digit, 0 to 9.
        source (int): Row in scikit-learn's digits.
        color (np.ndarray): RGB color, 0 to 255.
        mask (np.ndarray): (H, W) bool, True at visible pixels.
        full_area (int): Number of pixels before other digits covered it.
    """

    digit: int
    source: int
    color: np.ndarray
    mask: np.ndarray
    full_area: int

    @property
    def area(self) -> int:
        """Number of visible pixels."""
        return int(self.mask.sum())

    @property
    def bbox(self) -> list[int]:
        """Box around the visible pixels, as in COCO: x, y, width, height."""
        ys = np.flatnonzero(self.mask.any(1))
        xs = np.flatnonzero(self.mask.any(0))
        x, y = int(xs[0]), int(ys[0])
        return [x, y, int(xs[-1]) - x + 1, int(ys[-1]) - y + 1]


@dataclass
class Scene:
    """An image and its objects.

    Args:
        image (np.ndarray): (H, W, 3) uint8, RGB.
        background (np.ndarray): The image before any digit is drawn.
        instances (list[Instance]): Digits from the farthest to the nearest.
    """

    image: np.ndarray
    background: np.ndarray
    instances: list[Instance] = field(default_factory=list)


def digit_rows(split: str) -> np.ndarray:
    """Return the rows of scikit-learn's digits that a split uses.

    Args:
        split (str): ``train`` or ``val``; no digit is in both.

    Returns:
        np.ndarray: Row numbers.
    """
    order = np.random.default_rng(0).permutation(1797)
    return (
        order[NUM_VAL_DIGITS:] if split == 'train' else order[:NUM_VAL_DIGITS]
    )


class SceneMaker:
    """Deterministic generator of scenes, by seed, split and index.

    Args:
        split (str): ``train`` or ``val``.
        size (tuple[int, int]): Height and width of the images, in pixels.
        max_digits (int): Maximum number of digits in a scene.
        scales (tuple[float, float]): Range of the digits' heights, as
            fractions of the image's shorter side.
        seed (int): Seed of the random numbers.
    """

    def __init__(
        self,
        split: str,
        size: tuple[int, int] = (160, 160),
        max_digits: int = 6,
        scales: tuple[float, float] = (0.2, 0.5),
        seed: int = 0,
    ) -> None:
        self.split = split
        self.size = size
        self.max_digits = max_digits
        self.scales = scales
        self.seed = seed
        self.rows = digit_rows(split)
        data = load_digits()
        self.pixels, self.labels = data.images / 16.0, data.target

    def __call__(self, index: int) -> Scene:
        """Make scene number ``index``."""
        rng = np.random.default_rng([self.seed, self.split == 'train', index])
        background = self._background(rng)
        scene = Scene(background.copy(), background)
        for _ in range(rng.integers(1, self.max_digits + 1)):
            self._add(scene, rng)
        return scene

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """Draw smooth noise at three scales, in dull colours."""
        height, width = self.size
        color = rng.uniform(30, 130, 3)
        image = np.broadcast_to(color, (height, width, 3)).copy()
        for cells, strength in ((3, 25), (12, 15), (48, 10)):
            coarse = rng.uniform(0, 255, (cells, cells)).astype(np.uint8)
            smooth = Image.fromarray(coarse).resize(
                (width, height), Image.Resampling.BICUBIC
            )
            noise = np.asarray(smooth, float)[..., None] / 127.5 - 1
            image += noise * rng.uniform(0, strength, 3)
        return image.clip(0, 160).astype(np.uint8)

    def _add(self, scene: Scene, rng: np.random.Generator) -> None:
        """Place one digit where half of each earlier one stays visible."""
        for _ in range(20):
            row = int(rng.choice(self.rows))
            alpha = self._sprite(row, rng)
            limits = np.subtract(scene.image.shape[:2], alpha.shape)
            if limits.min() < 0:
                continue
            y, x = (int(rng.integers(0, limit + 1)) for limit in limits)
            here = np.s_[y : y + alpha.shape[0], x : x + alpha.shape[1]]
            covered = np.zeros(scene.image.shape[:2], bool)
            covered[here] = alpha >= 0.5
            if not covered.any() or any(
                (other.mask & ~covered).sum() < 0.5 * other.full_area
                for other in scene.instances
            ):
                continue
            # Each channel is bright or dark, at least one is bright: a
            # contrast to any background.
            bright = rng.random(3) < 0.5
            bright[rng.integers(3)] = True
            color = np.where(
                bright, rng.uniform(200, 255, 3), rng.uniform(0, 60, 3)
            )
            blend = alpha[..., None]
            patch = scene.image[here] * (1 - blend) + color * blend
            scene.image[here] = patch.round().astype(np.uint8)
            for other in scene.instances:
                other.mask &= ~covered
            scene.instances.append(
                Instance(
                    digit=int(self.labels[row]),
                    source=row,
                    color=color,
                    mask=covered,
                    full_area=int(covered.sum()),
                )
            )
            return

    def _sprite(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """Enlarge and rotate a digit; return its opacity, 0 to 1, cropped.

        The digit is thresholded at four times the size, so that only pixels
        on an edge have an opacity between 0 and 1.
        """
        height = rng.uniform(*self.scales) * min(self.size)
        side = max(8, round(height)) * 12 // 8
        canvas = Image.new('L', (12, 12))
        digit = (self.pixels[row] * 255).astype(np.uint8)
        canvas.paste(Image.fromarray(digit), (2, 2))
        canvas = canvas.resize(
            (4 * side, 4 * side), Image.Resampling.BICUBIC
        ).rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC)
        ink = canvas.point(lambda value: 255 * (value > 0.45 * 255))
        alpha = np.asarray(ink.reduce(4), float) / 255
        mask = alpha > 0
        rows, columns = map(np.flatnonzero, (mask.any(1), mask.any(0)))
        return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# Layouts ---------------------------------------------------------------------


def write(
    layout: str,
    out: Path,
    num_train: int = 2000,
    num_val: int = 200,
    size: tuple[int, int] = (160, 160),
    seed: int = 0,
    force: bool = False,
) -> bool:
    """Write a dataset of digits in the layout of a large dataset.

    The dataset is written elsewhere and moved to ``out`` when complete: an
    interrupted run leaves nothing there.

    Args:
        layout (str): ``coco``, ``ade20k`` or ``imagenet``.
        out (Path): Folder of the dataset, ``data_root`` in a config.
        num_train (int): Number of training images.
        num_val (int): Number of validation images.
        size (tuple[int, int]): Height and width of the images, in pixels.
        seed (int): Seed of the random numbers.
        force (bool): Replace a dataset that this tool wrote earlier.

    Returns:
        bool: False if an earlier dataset with these settings is kept.

    Raises:
        FileExistsError: ``out`` holds other files, or a dataset with other
            settings.
    """
    out = Path(out).resolve()
    settings = dict(
        layout=layout,
        num_train=num_train,
        num_val=num_val,
        size=list(size),
        seed=seed,
    )
    stamp = out / STAMP
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not stamp.is_file():
            raise FileExistsError(
                f"'{out}' holds files that this tool did not write; it is "
                'left alone. Choose another folder.'
            )
        made = json.loads(stamp.read_text())
        own = made.pop(FILES, [])
        if not force:
            if made != settings:
                changed = ', '.join(
                    f'{key} {made.get(key)} (asked: {settings[key]})'
                    for key in settings
                    if made.get(key) != settings[key]
                )
                raise FileExistsError(
                    f"'{out}' holds digits with other settings: {changed}. "
                    'Choose another folder.'
                )
            return False
        _require_own_files(out, own)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f'{out.name}.'))
    partial.chmod(0o755)
    try:
        _write_all(partial, settings)
        if out.is_dir():
            shutil.rmtree(out)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _write_all(out: Path, settings: dict) -> None:
    layout, size = settings['layout'], tuple(settings['size'])
    num_train, num_val = settings['num_train'], settings['num_val']
    for split, count in (('train', num_train), ('val', num_val)):
        single: dict[str, Any] = dict(max_digits=1, scales=(0.5, 0.9))
        scenes = SceneMaker(
            split,
            size,
            seed=settings['seed'],
            **(single if layout == 'imagenet' else {}),
        )
        progress = tqdm(
            range(count),
            desc=f'{layout} {split}',
            disable=None,  # disabled without a terminal
        )
        LAYOUTS[layout](out, split, ((i, scenes(i)) for i in progress))
    (out / STAMP).write_text(json.dumps({**settings, FILES: _list_files(out)}))


def _list_files(out: Path) -> list[str]:
    files = (path for path in out.rglob('*') if not path.is_dir())
    return sorted(path.relative_to(out).as_posix() for path in files)


def _require_own_files(out: Path, own: Sequence[str]) -> None:
    """Require that a folder to be replaced holds only what was written.

    Raises:
        FileExistsError: It holds another file.
    """
    others = sorted({*_list_files(out)} - {STAMP, *own})
    if others:
        raise FileExistsError(
            f"'{out}' holds {len(others)} files that this tool did not write, "
            f"such as '{others[0]}'. Move them away first."
        )


Scenes = Iterator[tuple[int, Scene]]


def _write_coco(out: Path, split: str, scenes: Scenes) -> None:
    """Write COCO's layout.

    ``annotations/instances_*2017.json`` has COCO's 80 categories, so that any
    COCO config runs; ``digits_*2017.json`` has ten, named 0 to 9.
    """
    from pycocotools import mask as rle

    folder = out / f'{split}2017'
    folder.mkdir()
    images: list[dict] = []
    annotations: list[dict] = []
    for index, scene in scenes:
        height, width = scene.image.shape[:2]
        name = f'{index + 1:012d}.jpg'
        _save_jpeg(scene.image, folder / name)
        images.append(
            dict(id=index + 1, file_name=name, height=height, width=width)
        )
        for instance in scene.instances:
            code = rle.encode(np.asfortranarray(instance.mask, np.uint8))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=COCO_IDS[instance.digit],
                    bbox=instance.bbox,
                    area=instance.area,
                    segmentation=dict(
                        size=code['size'], counts=code['counts'].decode()
                    ),
                    iscrowd=0,
                )
            )
    info = dict(description='Scenes of handwritten digits (scikit-learn)')
    names = [name.replace('_', ' ') for name in COCO_NAMES.split()]
    for prefix, categories in (
        ('instances', list(zip(COCO_IDS, names))),
        ('digits', [(COCO_IDS[d], str(d)) for d in range(10)]),
    ):
        content = dict(
            info=info,
            licenses=[],
            images=images,
            annotations=annotations,
            categories=[
                dict(id=i, name=name, supercategory='digit')
                for i, name in categories
            ],
        )
        path = out / 'annotations' / f'{prefix}_{split}2017.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))


def _write_ade20k(out: Path, split: str, scenes: Scenes) -> None:
    """Write ADE20K's layout.

    Background is class 1 of 150, digit d class 2 + d; 0 is unlabelled.
    """
    part = dict(train='training', val='validation')[split]
    for index, scene in scenes:
        name = f'ADE_{split}_{index + 1:08d}'
        labels = np.ones(scene.image.shape[:2], np.uint8)
        for instance in scene.instances:
            labels[instance.mask] = 2 + instance.digit
        for kind in ('images', 'annotations'):
            (out / kind / part).mkdir(parents=True, exist_ok=True)
        _save_jpeg(scene.image, out / 'images' / part / f'{name}.jpg')
        path = out / 'annotations' / part / f'{name}.png'
        Image.fromarray(labels).save(path)


def _write_imagenet(out: Path, split: str, scenes: Scenes) -> None:
    """Write ImageNet's layout.

    One digit per image, in the folders of the first ten classes. Annotation
    lists are written too: without them mmpretrain requires 1000 folders.
    """
    for wnid in IMAGENET_WNIDS:
        (out / split / wnid).mkdir(parents=True)
    lines = []
    for index, scene in scenes:
        digit = scene.instances[0].digit
        wnid = IMAGENET_WNIDS[digit]
        name = f'{wnid}/{wnid}_{index + 1}.JPEG'
        _save_jpeg(scene.image, out / split / name)
        lines.append(f'{name} {digit}\n')
    (out / 'meta').mkdir(exist_ok=True)
    (out / 'meta' / f'{split}.txt').write_text(''.join(lines))


def _write_imagenet_22k(out: Path, split: str, scenes: Scenes) -> None:
    """Write ImageNet-22K's folders, and Swin's list of a split."""
    from mmsmt.weights import imagenet_22k_synsets  # needs torch

    labels = {name: i for i, name in enumerate(imagenet_22k_synsets())}
    entries = []
    for index, scene in scenes:
        wnid = IMAGENET_WNIDS[scene.instances[0].digit]
        name = f'fall11_whole/{wnid}/{wnid}_{split}{index + 1}.JPEG'
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        _save_jpeg(scene.image, out / name)
        entries.append([name, labels[wnid]])
    path = out / f'ILSVRC2011fall_whole_map_{split}.txt'
    path.write_text(json.dumps(entries))


def _save_jpeg(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image).save(path, quality=95, subsampling=0)


LAYOUTS: dict[str, Callable[[Path, str, Scenes], None]] = dict(
    coco=_write_coco,
    ade20k=_write_ade20k,
    imagenet=_write_imagenet,
    imagenet22k=_write_imagenet_22k,
)
