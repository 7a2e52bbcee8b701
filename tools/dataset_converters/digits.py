"""Write scenes of handwritten digits in the layout of COCO, ADE20K, ImageNet.

    python tools/dataset_converters/digits.py --layout coco --out data/digits

Any config for that data set then runs on it: tools/train.py CONFIG
--data-root DIR. Needs scikit-learn, and pycocotools for coco.
"""

import argparse
import sys
from pathlib import Path

from mmsmt.datasets import digits


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
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
        help='of the images, in pixels (default: 160 160)',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--force', action='store_true', help='make it again if it is there'
    )
    args = parser.parse_args()
    if min(args.train, args.val) < 1 or min(args.size) < 32:
        parser.error('--train and --val must be >= 1, --size >= 32 32')
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
        sys.exit(str(error))
    state = 'written to' if made else 'there already, kept:'
    print(f'{args.train} + {args.val} images {state} {args.out}')


if __name__ == '__main__':
    main()
