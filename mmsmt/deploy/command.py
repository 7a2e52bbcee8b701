"""Predict on images, videos or a camera with a trained model.

    mmsmt predict CONFIG CHECKPOINT photos clip.mp4 --out predictions

A source is a file, a folder, a pattern in quotes, a URL, or the number of a
camera. Writes to the folder of --out: pictures with what was found, and for
detectors predictions.json in COCO's format (boxes, scores, masks in RLE), for
segmenters masks of class numbers (indexed PNG), for classifiers
predictions.csv. Images that cannot be read are reported and left out; then
the exit status is 1.
"""

import argparse
import signal
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

from mmsmt.data.convert.sources import describe_unread
from mmsmt.data.findings import Findings
from mmsmt.data.images import DEEP, report_faults
from mmsmt.data.parallel import show_progress
from mmsmt.errors import UsageError, UserError
from mmsmt.launch.config import add_cfg_options, load_config, positive
from mmsmt.runs.files import require_new_folder
from mmsmt.runs.signals import Stopper, StopRun

from .predictor import THRESHOLD, Predictor, find_reader
from .results import Results
from .sources import (
    Picture,
    PictureError,
    Video,
    count,
    find_pictures,
    iter_pictures,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line of ``predict``."""
    add_inputs(parser, 'checkpoint file or URL')
    parser.add_argument(
        '--threshold',
        type=_fraction,
        default=THRESHOLD,
        help='score from which objects are kept (default: %(default)s)',
    )
    parser.add_argument(
        '--batch',
        type=positive,
        default=1,
        help='images of one size that are computed together',
    )
    parser.add_argument(
        '--frames', type=positive, help='stop after so many pictures'
    )
    parser.add_argument(
        '--no-pictures', action='store_true', help='do not draw pictures'
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )


def add_inputs(parser: argparse.ArgumentParser, checkpoint: str) -> None:
    """Add a model, pictures, a folder for results and a device.

    Args:
        parser (ArgumentParser): Of a command.
        checkpoint (str): Help of the checkpoint.
    """
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help=checkpoint)
    parser.add_argument(
        'sources',
        nargs='+',
        metavar='SOURCE',
        help='file, folder, pattern, URL, or number of a camera',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='a new folder'
    )
    parser.add_argument('--device', help='such as cpu or cuda:1')
    add_cfg_options(parser)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
    return value


def main(args: argparse.Namespace) -> None:
    """Run ``predict``."""
    out: Path = args.out
    require_new_folder(out)
    places = (out.resolve(), *out.resolve().parents)
    inside = [x for x in args.sources if Path(x).resolve() in places]
    if inside:
        raise UsageError(
            f"--out must be outside of '{inside[0]}', whose pictures the next "
            'run would read with it'
        )
    cfg = load_config(args.config, cfg_options=args.cfg_options)
    # Before the model is built: a wrong source is reported at once.
    reader = find_reader(cfg)
    found = find_pictures(args.sources, reader)
    total = count(found)
    predictor = Predictor(
        cfg, args.checkpoint, device=args.device, amp=args.amp
    )
    pictures = iter_pictures(found)
    if args.frames:
        pictures = islice(pictures, args.frames)
        total = min(total, args.frames) if total else args.frames
    out.mkdir(parents=True, exist_ok=True)
    results = Results(
        out,
        predictor.task,
        predictor.classes,
        predictor.palette,
        pictures=not args.no_pictures,
    )
    skipped: list[tuple[Picture, PictureError]] = []
    begin = time.perf_counter()
    stream = predictor.stream(
        pictures,
        args.threshold,
        args.batch,
        skip=lambda picture, error: skipped.append((picture, error)),
    )
    stopper, code = Stopper(), 0
    try:
        with stopper.installed(), closing(results):
            for number, prediction in show_progress(
                stream, total, 'Predicting', few=0
            ):
                stopper.act_at_once(False)  # files are written whole
                results.add(number, prediction)
                stopper.act_at_once(True)
    except StopRun:
        live = any(isinstance(x, Video) and x.live for x in found)
        asked = live and stopper.number == signal.SIGINT  # ends a camera
        code = 0 if asked else 128 + stopper.number
    except OSError as error:
        raise UserError(
            f"'{out}' cannot be written: {error.strerror or error}. It has "
            f'the results of {sum(results.counts.values())} pictures or fewer.'
        ) from error
    _report(results, time.perf_counter() - begin)
    if code:
        print(
            f'Stopped by {signal.Signals(stopper.number).name} after '
            f'{sum(results.counts.values())} of {total or "more"} pictures.',
            file=sys.stderr,
        )
    findings = Findings()
    report_faults(
        'sources',
        [picture.source for picture, _ in skipped],
        [error.fault for _, error in skipped],
        findings,
    )
    if reader.deep:
        findings.warn('sources', f'{len(reader.deep)} {DEEP}', reader.deep[0])
    if predictor.lacks_letters:
        findings.warn(
            'class names',
            'no installed font has all their letters: squares stand for them '
            'in the pictures',
        )
    folders = [path for path in map(Path, args.sources) if path.is_dir()]
    unread = describe_unread(folders)
    if unread:
        findings.warn('sources', unread)
    lost = [x for x in found if isinstance(x, Video) and x.lost]
    for video in lost:
        findings.error(
            video.source,
            f'its last {video.lost} of {video.length} frames cannot be read',
        )
    for finding in findings:
        print(finding, file=sys.stderr)
    if skipped:
        print(f'{len(skipped)} pictures were left out.', file=sys.stderr)
    if code or skipped or lost:
        raise SystemExit(code or 1)


def _report(results: Results, seconds: float) -> None:
    """Print numbers of pictures and objects, and the files."""
    number = sum(results.counts.values())
    kinds = ' and '.join(f'{n} {kind}' for kind, n in results.counts.items())
    rate = f', {number / seconds:.1f} per second' if number else ''
    print(f'Predicted on {kinds or "no picture"} in {seconds:.1f} s{rate}.')
    nouns = {
        'detection': 'objects',
        'segmentation': 'pixels',
        'classification': 'images',
    }
    noun = nouns[results.task]
    for name, count_ in results.objects.most_common(10):
        print(f'  {name:20s} {count_} {noun}')
    for path in results.files:
        print(f'Written: {path}')
