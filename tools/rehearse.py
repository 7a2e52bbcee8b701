"""Rehearse a config's whole life in little, on digits: data, weights,
training, a kill, resumption, validation, test, pictures, TTA.

    python tools/rehearse.py configs/mask_rcnn_smt_s_1x.py

Model, losses, optimizer, pipelines, hooks and metric are the config's. The
exit status is 0 if every stage did what it should.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from mmengine.config import DictAction

from mmsmt import launch

try:
    from mmsmt.rehearsal import LENGTH, Rehearsal, table
except ModuleNotFoundError as error:
    sys.exit(
        f'Error: {error}. A rehearsal draws its data: pip install '
        "'mmsmt[demo]'"
    )

CPU_SCALE, CPU_BATCH = 0.25, 4


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--scale',
        type=float,
        help='of the images, 1.0 is the real one (default: 1.0 on a GPU,\n'
        f'{CPU_SCALE} without one; twice that for models with queries)',
    )
    parser.add_argument(
        '--batch',
        type=int,
        help="images of an iteration at most (default: the config's,\n"
        f'without a GPU {CPU_BATCH})',
    )
    parser.add_argument(
        '--epochs',
        type=int,
        default=LENGTH,
        help=f'that the schedule is cut to (default: {LENGTH})',
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )
    parser.add_argument(
        '--work-dir',
        help='a new folder (default: work_dirs/rehearsal/CONFIG/TIME)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    args = parser.parse_args()
    if args.epochs < 3:
        parser.error('--epochs must be at least 3: trained, killed, resumed')
    if args.scale is not None and not 0 < args.scale <= 4:
        parser.error('--scale must be above 0, and 4 at most')
    if args.batch is not None and args.batch < 1:
        parser.error('--batch must be at least 1')
    return args


def main() -> None:
    args = parse_args()
    start = time.strftime('%Y%m%d_%H%M%S')
    stem = Path(args.config).stem
    folder = Path(args.work_dir or f'work_dirs/rehearsal/{stem}/{start}')
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise launch.LaunchError(f"'{folder}' exists: give a new folder.")
    args.launcher, args.local_rank, args.data_root = 'none', 0, None
    cfg = launch.load_config(args)
    if not torch.cuda.is_available():
        scale = CPU_SCALE * (2 if cfg.model.get('num_queries') else 1)
        args.scale = args.scale or scale
        args.batch = args.batch or CPU_BATCH
    rehearsal = Rehearsal(
        cfg,
        folder.resolve(),
        Path(__file__).resolve().parent,
        args.scale or 1.0,
        args.epochs,
        args.batch,
        args.amp,
    )
    print(rehearsal.differences(), flush=True)
    ok = rehearsal.run()
    print(f'\n{stem}')
    print(*table(rehearsal.stages), sep='\n')
    full = rehearsal.estimate()
    if full:
        print(full)
    print(f'Logs: {folder}')
    if ok:
        rehearsal.clean()
    else:
        sys.exit(1)


if __name__ == '__main__':
    launch.run(main)
