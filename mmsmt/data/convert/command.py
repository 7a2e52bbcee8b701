"""Make a config and annotations from a folder of labelled images.

    mmsmt data photos --out birds
    mmsmt train birds/config.py

Reads COCO json in any layout, YOLO (data.yaml; boxes and polygons), Pascal
VOC, LabelMe json, masks (numbers or colours) and folders of classes. Writes
to the folder of --out annotations, a config with a recipe that fits the data
and this machine, a sheet of labelled images and a picture of counts and
sizes. The labelled images stay where they are and as they are.
"""

import argparse
import shutil
from pathlib import Path

from mmsmt.data.findings import Findings
from mmsmt.data.images import find_fault, report_faults
from mmsmt.data.parallel import map_files
from mmsmt.errors import UsageError, UserError
from mmsmt.runs.files import require_new_folder

from .config import MODELS, write_config
from .pictures import draw_counts, draw_sheet
from .reading import FORMATS, read_folder
from .recipe import fit_recipe
from .records import Collection
from .splitting import SHARE, split_pictures
from .writing import write_annotations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``data``."""
    parser.add_argument('folder', type=Path, help='folder with the data')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='a new folder'
    )
    parser.add_argument(
        '--format', choices=FORMATS, help='format (default: found out)'
    )
    parser.add_argument(
        '--task',
        choices=tuple(MODELS),
        help='default: masks of objects where all have one, else boxes; '
        'a class for each pixel for masks; a class for each image for folders',
    )
    parser.add_argument(
        '--model',
        choices=[model for models in MODELS.values() for model in models],
        help='default: Mask R-CNN for masks, ATSS for boxes, UperNet, a '
        'linear classifier',
    )
    parser.add_argument(
        '--size', choices=('t', 's', 'b', 'l'), default='t', help='of SMT'
    )
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='names of the classes, in their order; others are left out',
    )
    parser.add_argument(
        '--val-share',
        type=float,
        default=SHARE,
        metavar='SHARE',
        help='share of the images to validate with, where there is no val set '
        f'(default: {SHARE})',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='another seed, another val set'
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='start without the released weights',
    )


def main(args: argparse.Namespace) -> None:
    """Run ``data``."""
    if not 0 < args.val_share < 1:
        raise UsageError('--val-share must be above 0 and below 1')
    out: Path = args.out
    require_new_folder(out)
    root = args.folder.resolve()
    if root in (out.resolve(), *out.resolve().parents):
        raise UsageError(
            '--out must be outside the folder of the data, which the next run '
            'would read with it'
        )
    collection = read_folder(args.folder, args.format, args.classes)
    found = collection.task
    if args.task:
        collection.task = args.task
        allowed = {'instance', 'detection'}
        if args.task != found and {args.task, found} != allowed:
            raise UserError(
                f'{collection.format} in {args.folder} is for {found}, not '
                f'for {args.task}.'
            )
    models = MODELS[collection.task]
    model = args.model or models[0]
    if model not in models:
        raise UserError(
            f'--model {model} is not for {collection.task}, which has '
            f'{", ".join(models)}.'
        )
    split_pictures(collection, args.val_share, args.seed)
    check_pictures(collection, args.folder)
    recipe = fit_recipe(collection, args.size)
    root = args.folder.absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_annotations(
            collection, root, out, rectangles=args.task == 'instance'
        )
        config = write_config(
            *(collection, recipe, root, out, model, args.size),
            from_scratch=args.from_scratch,
        )
        draw_sheet(collection, out / 'labels.png')
        draw_counts(collection, out / 'counts.png')
    except BaseException as error:
        shutil.rmtree(out, ignore_errors=True)  # not half of it
        if isinstance(error, OSError):
            raise UserError(f"'{out}' cannot be written: {error}") from error
        raise
    describe(collection, out)
    work_dir = Path('work_dirs') / out.name
    print(
        f'\nNext:\n'
        f'  mmsmt check {config}\n'
        f'  mmsmt train {config} --work-dir {work_dir}\n'
        f'  mmsmt test {config} {work_dir}/best_*.pth --show-dir pictures'
    )


def check_pictures(collection: Collection, folder: Path) -> None:
    """Require that all images are whole.

    Args:
        collection (Collection): The data.
        folder (Path): Their folder, which the message names.

    Raises:
        DataError: Images cannot be read, or are cut off.
    """
    findings = Findings()
    paths = [str(picture.path) for picture in collection.pictures()]
    faults = map_files(find_fault, paths, 'Images')
    report_faults(folder, paths, faults, findings)
    findings.raise_errors()
    for finding in findings:
        print(finding)


def describe(collection: Collection, out: Path) -> None:
    """Print what was read and written."""
    counts = ', '.join(
        f'{len(pictures)} {split}'
        for split, pictures in collection.splits.items()
    )
    names = ', '.join(collection.classes[:12])
    more = len(collection.classes) - 12
    print(f'{collection.format}, for {collection.task}: {counts} images')
    print(
        f'{len(collection.classes)} classes: {names}'
        + (f' and {more} more' if more > 0 else '')
    )
    for note in collection.notes:
        print(f'- {note}')
    print(f'Written to {out}: config.py, annotations, labels.png, counts.png')
