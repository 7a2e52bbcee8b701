"""Train Mask R-CNN with SMT-T on handwritten digits, from scratch.

Writes scenes of digits in COCO's layout, trains
configs/demo/mask_rcnn_smt_t_digits.py with the train command, and draws a
learning curve and predictions. An interrupted demo resumes when run again.
"""

import argparse
import io
import json
import sys
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from mmengine.config import Config

from mmsmt.analysis.runs import iter_records
from mmsmt.data import digits
from mmsmt.errors import UserError
from mmsmt.optim import cpu_has_bf16
from mmsmt.paths import configs_dir
from mmsmt.runs.checkpoints import find_all
from mmsmt.runs.files import write_text
from mmsmt.runs.signals import Stopper, StopRun

from .pictures import BOX, MASK, draw_curve, draw_predictions
from .progress import run_with_progress

COMMAND = (sys.executable, '-m', 'mmsmt')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``demo``."""
    parser.add_argument('--data', type=Path, default=Path('data/demo_digits'))
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/demo')
    )
    parser.add_argument(
        '--train', type=int, default=2160, help='training images'
    )
    parser.add_argument(
        '--val', type=int, default=100, help='validation images'
    )
    parser.add_argument(
        '--epochs', type=int, help="epochs to train (default: the config's)"
    )


def main(args: argparse.Namespace) -> None:
    """Run ``demo``."""
    start = time.time()
    config = str(configs_dir().resolve() / 'demo/mask_rcnn_smt_t_digits.py')
    try:
        made = digits.write(
            'coco', args.data, args.train, args.val, size=(128, 128)
        )
    except FileExistsError as error:
        raise UserError(f'{error} (Set it by --data DIR.)') from None
    print(f'Data: {args.data}' + ('' if made else ' (kept)'), flush=True)
    _require_same_data(args)
    epochs = args.epochs or Config.fromfile(config).train_cfg.max_epochs
    try:
        with Stopper().installed():
            record = train(config, args.data, args.work_dir, epochs)
    except (KeyboardInterrupt, StopRun):
        raise UserError(
            'Interrupted. The same command resumes from here.'
        ) from None
    curve = draw_curve(
        read_records(args.work_dir), args.work_dir / 'learning_curve.png'
    )
    # Suppress the hosts' notices, which would hide the result.
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        sheet = draw_predictions(
            config,
            args.work_dir / f'epoch_{epochs}.pth',
            args.data,
            args.work_dir / 'predictions.png',
        )
    print(
        f'\nAfter {epochs} epochs, on {args.val} validation images:\n'
        f'  box AP   {record[BOX]:.3f}\n'
        f'  mask AP  {record[MASK]:.3f}\n'
        f'Learning curve: {curve}\n'
        f'Predictions:    {sheet}\n'
        f'{time.time() - start:.0f} s in all'
    )


def _require_same_data(args: argparse.Namespace) -> None:
    """Require that a run that is there was trained on the same data.

    Raises:
        UserError: It was trained on another folder, or other images.
    """
    path = args.work_dir / 'demo.json'
    stamp = json.loads((args.data / digits.STAMP).read_text())
    now = dict(
        data=str(args.data.resolve()),
        train=args.train,
        val=args.val,
        seed=stamp['seed'],
    )
    if find_last_epoch(args.work_dir) and path.is_file():
        before = json.loads(path.read_text())
        if before != now:
            raise UserError(
                f"'{args.work_dir}' holds a demo on other data: "
                f'{before["train"]} and {before["val"]} images in '
                f"'{before['data']}'. Give another --work-dir."
            )
        return
    args.work_dir.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(now))


def train(config: str, data: Path, work_dir: Path, epochs: int) -> dict:
    """Train and evaluate, resuming a run; return the last epoch's metrics."""
    line = [*COMMAND, 'train', config, '--resume', '--data-root', data]
    line += ['--work-dir', work_dir, '--cfg-options']
    line += [
        f'train_cfg.max_epochs={epochs}',
        f'param_scheduler.1.end={epochs}',
    ]
    if not torch.cuda.is_available() and cpu_has_bf16():
        line.append('--amp')
    last = find_last_epoch(work_dir)
    if last < epochs:
        run_with_progress(line, 'Training', work_dir / 'train.log', epochs)
    elif not (work_dir / f'epoch_{epochs}.pth').is_file():
        raise UserError(
            f"'{work_dir}' holds a demo of {last} epochs, and no checkpoint "
            f'of epoch {epochs} any more. Give --epochs {last}, or another '
            '--work-dir.'
        )
    for record in read_records(work_dir):
        if BOX in record and record['step'] == epochs:
            return record
    # The run was interrupted between the last epoch and its evaluation.
    out = work_dir / 'test'
    line = [*COMMAND, 'test', config, work_dir / f'epoch_{epochs}.pth']
    line += ['--data-root', data, '--work-dir', out]
    run_with_progress(line, 'Testing', work_dir / 'test.log', epochs)
    results = [p for p in out.glob('*/*.json') if p.stem == p.parent.name]
    return json.loads(max(results).read_text())


def find_last_epoch(work_dir: Path) -> int:
    """Return the last finished epoch that is saved, or 0."""
    found, _ = find_all(work_dir)
    return found[0].epoch if found else 0


def read_records(work_dir: Path) -> list[dict]:
    """Read the logged records of all runs; a repeated step counts once."""
    by_step = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for record in iter_records(path):
            if 'step' in record:
                by_step[BOX in record, record['step']] = record
    return [by_step[key] for key in sorted(by_step)]
