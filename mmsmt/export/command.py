"""Export a trained model whole, and prove that the file is the model.

    mmsmt export CONFIG CHECKPOINT --format onnx --out model.onnx

The file takes images, (B, 3, H, W) from 0 to 255 in RGB order, and gives
probabilities of classes; logits and a map of classes; or boxes, scores and
labels (and masks inside the boxes), suppression included. Then both predict
on images of the config's test data: largest difference, metrics and time are
printed. Beyond the bounds no file is written, and the exit status is 1. With
--sources they predict on photographs, without labels and metrics.
"""

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmsmt.data.configured import TASKS
from mmsmt.data.parallel import show_progress
from mmsmt.errors import UsageError
from mmsmt.launch.config import (
    add_cfg_options,
    add_data_root,
    add_no_check,
    load_config,
    positive,
)
from mmsmt.runtimes.description import (
    SUFFIXES,
    Description,
    ExportError,
    require_packages,
)
from mmsmt.runtimes.files import find_format
from mmsmt.runtimes.model import ExportedModel

from .formats import list_files, write_model
from .material import Material, from_sources, from_test_data
from .proof import Proof, prove, show
from .whole import Whole

BOUNDS = {'fp32': (1e-4, 0.001), 'fp16': (None, 0.005), 'int8': (None, 0.02)}
"""Largest difference of outputs, and change of metrics, by precision."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line of ``export``."""
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument(
        '--format',
        choices=SUFFIXES,
        help='of the file (default: by the suffix of --out)',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE', help='a new file'
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='take images of one size only (default: any)',
    )
    parser.add_argument(
        '--batch',
        type=positive,
        help='take so many images only (default: any)',
    )
    parser.add_argument(
        '--precision',
        choices=BOUNDS,
        default='fp32',
        help='of the weights and the arithmetic (default: %(default)s)',
    )
    parser.add_argument(
        '--sources',
        nargs='+',
        metavar='SOURCE',
        help='files, folders, patterns or URLs of photographs to compare and '
        'calibrate on (default: the test data)',
    )
    parser.add_argument(
        '--calibrate',
        type=positive,
        default=32,
        metavar='N',
        help='number of images that int8 is calibrated on, the last ones '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--images',
        type=positive,
        default=100,
        metavar='N',
        help='number of images to compare on (default: %(default)s)',
    )
    parser.add_argument(
        '--bound',
        type=float,
        help='largest difference of outputs (default: 1e-4 in fp32, none in '
        'others)',
    )
    parser.add_argument(
        '--metric-bound',
        type=float,
        help='largest change of AP, mIoU or accuracy, from 0 to 1 (default: '
        '0.001 in fp32, 0.005 in fp16, 0.02 in int8)',
    )
    add_data_root(parser)
    add_no_check(parser)
    add_cfg_options(parser)


def main(args: argparse.Namespace) -> None:
    """Run ``export``."""
    args.format = args.format or find_format(args.out)
    suffixes = [SUFFIXES[args.format]] if args.format else SUFFIXES.values()
    if args.out.suffix not in suffixes:
        raise UsageError(
            f"--out '{args.out}' must end with {' or '.join(suffixes)}"
        )
    if find_format(Path(args.checkpoint)):
        raise UsageError(f"'{args.checkpoint}' is an exported file already")
    for file in list_files(args.out):
        if file.exists():
            raise UsageError(f"--out '{file}' exists already")
    if args.format == 'torch-export' and not args.size:
        raise UsageError('--format torch-export needs --size H W')
    if args.format == 'torch-export' and args.precision != 'fp32':
        raise UsageError(f'torch-export is fp32 only, not {args.precision}')
    require_packages(args.format)
    with tempfile.TemporaryDirectory() as work_dir:
        cfg = load_config(
            args.config,
            cfg_options=args.cfg_options,
            work_dir=work_dir,
            data_root=args.data_root,
        )
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of the hosts
            _export(cfg, args)


def _export(cfg: Config, args: argparse.Namespace) -> None:
    """Write the file and prove it, with a runner of the config."""
    scope = cfg.get('default_scope')
    if scope not in TASKS:
        raise ExportError(f'default_scope={scope!r} is not exported.')
    material = _find_material(cfg, args)
    whole = Whole(material.model, TASKS[scope])
    description = _describe(whole, material.classes, args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # Beside, until it is proved: nobody takes it for the model before.
    with tempfile.TemporaryDirectory(dir=args.out.parent) as folder:
        path = Path(folder, args.out.name)
        files = write_model(
            *(whole, args.format, path, description),
            images=material.iter_calibration(args.batch or 1),
        )
        align_corners = getattr(material.model, 'align_corners', False)
        exported = ExportedModel(path, align_corners)
        batches = show_progress(
            material.batches, material.number, 'Comparing', few=0
        )
        proof = prove(material.model, exported, batches, material.judge)
        for line in show(proof):
            print(line)
        _require(proof, args)
        for file in files:
            file.replace(args.out.parent / file.name)
            size = (args.out.parent / file.name).stat().st_size
            print(
                f'Written: {args.out.parent / file.name} '
                f'({size / 2**20:.1f} MiB)'
            )


def _find_material(cfg: Config, args: argparse.Namespace) -> Material:
    calibrate = args.calibrate if args.precision == 'int8' else 0
    numbers = args.images, calibrate
    if args.sources:
        return from_sources(
            cfg, args.checkpoint, args.sources, args.size, *numbers
        )
    return from_test_data(
        cfg, args.checkpoint, args.size, *numbers, check=not args.no_check
    )


def _require(proof: Proof, args: argparse.Namespace) -> None:
    """Raise an error where a proof is beyond its bounds."""
    bound, change = BOUNDS[args.precision]
    bound = bound if args.bound is None else args.bound
    change = change if args.metric_bound is None else args.metric_bound
    faults = []
    if bound is None and not proof.metrics:
        print(
            f'Without metrics and --bound nothing is required of '
            f'{args.precision}: judge by the difference.'
        )
    if proof.nothing and not proof.metrics:
        faults.append(
            'neither found an object in these images, so that nothing was '
            'compared'
        )
    if not np.isfinite(proof.difference):
        faults.append('its outputs are not finite')
    elif bound is not None and proof.difference > bound:
        faults.append(
            f'outputs differ by {proof.difference:.2e}, more than {bound:g} '
            '(--bound)'
        )
    if proof.change > change:
        faults.append(
            f'a metric changes by {proof.change:.4f}, more than {change:g} '
            '(--metric-bound)'
        )
    if faults:
        raise ExportError(
            f"'{args.out}' would not be the model, and is not written: "
            + '; '.join(faults)
            + '.'
        )


def _describe(
    whole: Whole, classes: Sequence[str], args: argparse.Namespace
) -> Description:
    cfg = getattr(getattr(whole.model, 'roi_head', None), 'test_cfg', None)
    return Description(
        task=whole.task,
        classes=tuple(map(str, classes)),
        outputs=whole.outputs,
        size=tuple(args.size) if args.size else None,
        batch=args.batch or (1 if args.format == 'torch-export' else None),
        mask_threshold=float((cfg or {}).get('mask_thr_binary', 0.5)),
        precision=args.precision,
        divisor=whole.plan['divisor'],
    )
