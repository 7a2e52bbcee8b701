"""Draw the paper's figures of a model and your images.

    mmsmt figures CONFIG CHECKPOINT photos --out figures

Draws, as PNG and SVG, with the paper's numbers:
  4    outputs of MHMC's heads in stage 1, and modulators of stages 1 and 2
  5    modulators before and after SAA
  7    relative receptive field of the MSA blocks over depth
  8    modulators of all SAM blocks of stage 3
  9    modulators of stages 1 to 3
  cam  class activation maps, by HiResCAM (needs mmsmt[figures])
Maps are L2 norms over channels. CHECKPOINT may be the word random: random
weights, which the figures mention. --compare adds another model below, such
as one with a single head (sam_heads=1) for Figure 4(b).
"""

import argparse
import sys
from itertools import islice

from mmsmt.data.parallel import show_progress
from mmsmt.deploy.command import add_inputs
from mmsmt.deploy.predictor import find_reader
from mmsmt.deploy.sources import (
    PictureError,
    count,
    find_pictures,
    iter_pictures,
)
from mmsmt.launch.config import load_config, positive
from mmsmt.runs.files import require_new_folder

from .activation import require_captum
from .paper import FIGURES, NotDrawn
from .study import FigureError, Study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line of ``figures``."""
    add_inputs(parser, 'checkpoint file or URL, or the word random')
    parser.add_argument(
        '--figures',
        nargs='+',
        choices=FIGURES,
        default=list(FIGURES),
        metavar='N',
        help='which to draw: %(choices)s (default: all)',
    )
    parser.add_argument(
        '--images',
        type=positive,
        default=6,
        metavar='N',
        help='number of images, the first ones (default: %(default)s)',
    )
    parser.add_argument(
        '--class',
        dest='name',
        metavar='NAME',
        help='class of the activation maps (default: the one found)',
    )
    parser.add_argument(
        '--compare',
        nargs=2,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='draw another model too',
    )


def main(args: argparse.Namespace) -> None:
    """Run ``figures``."""
    require_new_folder(args.out)
    if 'cam' in args.figures:
        require_captum()
    models = [(args.config, args.checkpoint), *args.compare]
    configs = [
        load_config(config, cfg_options=args.cfg_options)
        for config, _ in models
    ]
    pictures = find_pictures(args.sources, find_reader(configs[0]))
    studies = [
        Study(cfg, checkpoint, args.device)
        for cfg, (_, checkpoint) in zip(configs, models)
    ]
    blocks = set(args.figures) != {'cam'}
    skipped = 0
    chosen = islice(iter_pictures(pictures), args.images)
    total = min(count(pictures) or args.images, args.images)
    for picture in show_progress(chosen, total, 'Computing', few=0):
        try:
            image = picture.read()
            data = [study.predictor.prepare(image) for study in studies]
        except PictureError as error:
            print(f"'{picture.source}': {error}", file=sys.stderr)
            skipped += 1
            continue
        for study, prepared in zip(studies, data):
            study.add(
                *(picture.name, prepared),
                blocks=blocks,
                activation='cam' in args.figures,
                name=args.name,
            )
    if not studies[0].images:
        raise FigureError('No image could be read.')
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.figures:
        try:
            files = FIGURES[name](studies, args.out)
        except NotDrawn as reason:
            print(f'Figure {name} is not drawn: {reason}.')
            continue
        for path in files:
            print(f'Written: {path}')
    if skipped:
        raise SystemExit(1)
