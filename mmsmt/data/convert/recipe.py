"""Fit a training recipe to a dataset and a machine."""

import math
from dataclasses import dataclass, field

import numpy as np

from mmsmt.data.coco import MANY
from mmsmt.environment import count_cores

from .records import Collection
from .sources import measure

VIEWS = 36_000
"""Images that a training shows at least, repetitions included, within the
bounds of the epochs."""
GIB_PER_IMAGE = {'t': 4, 's': 6, 'b': 8, 'l': 12}
"""GPU memory of a training image of 800 x 1333 pixels, rounded up."""
LARGEST_SIDE, SMALLEST_SIDE = 1333, 320
SMALL_OBJECT = 16
"""Side of an object, in pixels of the scaled image, below which stride 4 and 8
of the pyramid see little of it."""
RATES = {  # learning rate and batch of the paper's recipes
    'instance': (2e-4, 16),
    'detection': (1e-4, 16),
    'semantic': (6e-5, 16),
    'classification': (1e-3, 1024),  # half of it
}


@dataclass
class Recipe:
    """Settings that suit a dataset, with the reason for each.

    Args:
        batch (int): Images per iteration and process.
        rate (float): Learning rate.
        epochs (int): Number of epochs.
        iterations (int): Number of iterations.
        warmup (int): Iterations of the warm-up.
        side (int): Longer side of scaled images, or of crops, in pixels.
        most (int): Objects of the fullest image.
        workers (int): Processes that load images.
        reasons (dict[str, str]): Explanations by setting.
    """

    batch: int
    rate: float
    epochs: int
    iterations: int
    warmup: int
    side: int
    most: int
    workers: int
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def interval(self) -> int:
        """Epochs from one validation to the next."""
        return max(1, self.epochs // 12)


def fit_recipe(collection: Collection, size: str) -> Recipe:
    """Fit a recipe to the images, the objects and this machine.

    Args:
        collection (Collection): The data.
        size (str): Size of the model: ``t``, ``s``, ``b`` or ``l``.
    """
    task, count = collection.task, len(collection.splits['train'])
    name, memory = _find_gpu()
    batch, base = 2, RATES[task]
    if memory:
        fitting = int(memory / GIB_PER_IMAGE[size])
        fitting *= 8 if task == 'classification' else 1
        batch = 2 ** int(math.log2(min(max(fitting, 1), base[1])))
    elif task == 'classification':
        batch = 16
    batch = min(batch, 2 ** int(math.log2(count)) if count > 1 else 1)
    if task == 'semantic':  # UperNet's norm over maps of one pixel
        batch = max(batch, 2)
    most_epochs = 300 if task == 'semantic' else 100
    epochs = min(max(math.ceil(VIEWS / count), 12), most_epochs)
    per_epoch = math.ceil(count / batch)
    iterations = epochs * per_epoch
    warmup = min(1500 if task == 'semantic' else 500, iterations // 10)
    # AdamW's steps do not grow with the gradient: the root of the batch.
    rate = float(f'{base[0] * math.sqrt(batch / base[1]):.1e}')
    side, why_side = _choose_side(collection)
    things = [len(p.things) for p in collection.pictures()]
    share = 'half of ' if task == 'classification' else ''
    reasons = dict(
        batch=f'{name}, {memory:.0f} GiB' if memory else 'no GPU was found',
        rate=f"{share}the paper's rate for {base[1]} images, times the "
        f'root of {batch}/{base[1]}',
        epochs=f'{epochs * count} images are shown, of {count}',
        warmup=f'at most a tenth of {iterations} iterations',
        side=why_side,
    )
    return Recipe(
        batch,
        rate,
        epochs,
        iterations,
        warmup,
        side,
        max(things, default=0),
        min(4, count_cores()),
        reasons,
    )


def needs_more_detections(recipe: Recipe) -> int:
    """Return the detections an image needs, 0 if the default's do."""
    return (
        math.ceil(recipe.most * 1.5 / 100) * 100 if recipe.most > MANY else 0
    )


def _find_gpu() -> tuple[str, float]:
    """Return the name and the memory in GiB of the first GPU."""
    import torch

    if not torch.cuda.is_available():
        return '', 0.0
    memory = torch.cuda.get_device_properties(0).total_memory
    return torch.cuda.get_device_name(0), memory / 2**30


def _choose_side(collection: Collection) -> tuple[int, str]:
    """Choose the image scale by the sizes of images and objects."""
    pictures = list(collection.pictures())
    if collection.task == 'classification':
        return 224, 'the size of the released weights'
    step = max(1, len(pictures) // 2000)
    sizes = [
        (p.height, p.width) if p.height else measure(p.path)
        for p in pictures[::step]
    ]
    if collection.task == 'semantic':
        shorter = int(np.median([min(size) for size in sizes]))
        side = min(512, max(64, shorter // 32 * 32))
        return side, f'the shorter side of images is {shorter} pixels'
    longer = float(np.percentile([max(size) for size in sizes], 90))
    chosen = min(longer, LARGEST_SIDE)
    sides = [
        math.sqrt(thing.box[2] * thing.box[3])
        for picture in pictures
        for thing in picture.things
    ]
    small = float(np.percentile(sides, 10)) if sides else 32.0
    scaled = small * chosen / longer
    reason = f'images have up to {longer:.0f} pixels'
    if scaled < SMALL_OBJECT:
        chosen = min(chosen * SMALL_OBJECT / scaled, 2 * chosen, 1600)
        reason += f', and a tenth of the objects is below {small:.0f}'
    return max(SMALLEST_SIDE, round(chosen / 32) * 32), reason
