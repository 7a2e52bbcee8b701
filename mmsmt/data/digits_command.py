"""Write scenes of handwritten digits in the layout of COCO, ADE20K, ImageNet.

    mmsmt digits --layout coco --out data/digits

Any config for that dataset then runs on it: mmsmt train CONFIG --data-root
DIR. Needs scikit-learn, and pycocotools for coco.
"""

import argparse
from pathlib import Path

from mmsmt.data import digits
from mmsmt.errors import UsageError, UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``digits``."""
    parser.add_argument('--layout', choices=digits.LAYOUTS, required=True)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--train', type=int, default=2000, metavar='N')
    parser.add_argument('--val', type=int, default=200, metavar='N')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(160, 160),
        metavar=('H', 'W'),
        help='size of the images, in pixels (default: 160 160)',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--force', action='store_true', help='replace existing digits'
    )


def main(args: argparse.Namespace) -> None:
    """Run ``digits``."""
    if min(args.train, args.val) < 1 or min(args.size) < 32:
        raise UsageError('--train and --val must be >= 1, --size >= 32 32')
    try:
        made = digits.write(
            args.layout,
            args.out,
            args.train,
            args.val,
            tuple(args.size),
            args.seed,
            args.force,
        )
    except FileExistsError as error:
        hint = ' (--force replaces them.)' if 'settings' in str(error) else ''
        raise UserError(f'{error}{hint}') from None
    state = 'written to' if made else 'there already, kept:'
    print(f'{args.train} + {args.val} images {state} {args.out}')
