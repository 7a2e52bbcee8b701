"""Test a trained detector, segmenter or classifier."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmsmt.data.configured import divides_datasets, iter_datasets, type_name
from mmsmt.data.files import check_data_files
from mmsmt.errors import UsageError
from mmsmt.runs.files import require_new_folder
from mmsmt.runtimes.files import find_format
from mmsmt.runtimes.model import use_exported

from .building import explain_building
from .checking import check_data
from .checkpoints import read_safely
from .config import (
    LaunchError,
    add_common_arguments,
    load_config_of,
    require_whole_checkpoint,
)
from .outputs import build_dump, drop_short_palettes, place_pictures
from .processes import build_runner, connect_processes
from .ranks import launched_rank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``test``."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', help='checkpoint file or URL, or an exported file'
    )
    add_common_arguments(parser)
    parser.add_argument(
        '--out',
        metavar='FILE.pkl',
        type=_pickle_file,
        help='save all predictions in a file',
    )
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window'
    )
    parser.add_argument(
        '--show-dir',
        metavar='DIR',
        help='save pictures of predictions in a new folder',
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds per picture'
    )
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation'
    )


def _pickle_file(name: str) -> str:
    if not name.endswith(('.pkl', '.pickle')):
        raise argparse.ArgumentTypeError(f"'{name}' must end with .pkl")
    return name


def main(args: argparse.Namespace) -> None:
    """Run ``test``."""
    run = Path(args.checkpoint).parent
    # Its report shows the test.
    known = any(run.glob('*/vis_data/config.py')) and os.access(run, os.W_OK)
    cfg = load_config_of(args, str(run) if known else None)
    if args.out and Path(args.out).exists() and not launched_rank():
        raise UsageError(f"--out '{args.out}' exists already")
    evaluator = cfg.get('test_evaluator')
    if args.out and divides_datasets(evaluator):
        raise LaunchError(
            f'--out writes all outputs, and {type_name(evaluator)} gives each '
            'dataset to a metric of its own. Test the datasets one by one.'
        )
    prepare_testing(
        cfg,
        args.checkpoint,
        args.show,
        args.show_dir,
        args.wait_time,
        args.tta,
        check=not args.no_check,
    )
    connect_processes(cfg)  # which wait for a long evaluation
    with explain_building(cfg):
        with keep_config_of_training(cfg):
            runner = build_runner(cfg)
        if args.out:  # before others fail
            dump = build_dump(cfg, args.out)
            runner.test_evaluator.metrics.insert(0, dump)
        if args.show or args.show_dir:
            place_pictures(runner)
        runner.test()


@contextlib.contextmanager
def keep_config_of_training(cfg: Config) -> Iterator[None]:
    """Keep the config that a training wrote into the work dir.

    mmengine replaces it by the test's, whose model may be another one.

    Args:
        cfg (Config): The config of the test.
    """
    path = Path(cfg.work_dir, Path(cfg.filename or '.').name)
    before = path.read_bytes() if path.is_file() else None
    try:
        yield
    finally:
        if before is not None and not launched_rank():
            path.write_bytes(before)


def prepare_testing(
    cfg: Config,
    checkpoint: str,
    show: bool = False,
    show_dir: str | None = None,
    wait_time: float = 2,
    tta: bool = False,
    check: bool = True,
) -> None:
    """Apply the options of testing, and check checkpoint and data.

    Args:
        cfg (Config): The config, changed in place.
        checkpoint (str): File or URL of a trained model, or a file that
            ``mmsmt export`` wrote.
        show (bool): Show pictures in a window.
        show_dir (str, optional): Save pictures under this folder, a new one.
        wait_time (float): Seconds to show each picture.
        tta (bool): Use the config's test-time augmentation.
        check (bool): Check the contents of the dataset.

    Raises:
        LaunchError: The checkpoint or a setting of the config is missing.
        UserError: The folder for pictures has content.
        CheckpointError: The checkpoint cannot be read.
        DataError: A file of the dataset is missing, or it has faults.
        ExportError: The exported file cannot be read, or is of another task.
    """
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise LaunchError(f"There is no checkpoint '{checkpoint}'.")
    if not cfg.get('test_dataloader'):
        raise LaunchError(f"'{cfg.filename}' has no test data.")
    if show_dir and not launched_rank():
        require_new_folder(Path(show_dir))  # pictures keep their names
    exported = bool(find_format(Path(checkpoint)))
    cfg.load_from, cfg.resume = None, False
    if not exported:
        cfg.load_from = read_safely(checkpoint)
    elif tta:
        raise LaunchError('--tta augments models, not exported files.')
    # A config of fine-tuning may turn it off.
    require_whole_checkpoint(cfg, True)
    check_data_files(cfg, ('test_dataloader',))
    if check:
        check_data(cfg, ('test',), checkpoint if exported else cfg.load_from)
    if exported:
        use_exported(cfg, checkpoint)
    if show or show_dir:
        _draw(cfg, show, show_dir, wait_time)
    if tta:
        _augment(cfg)


def _draw(
    cfg: Config, show: bool, show_dir: str | None, wait_time: float
) -> None:
    """Turn on the host's visualization hook; settings differ by host."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise LaunchError('The config has no visualization hook to draw with.')
    drop_short_palettes(cfg)
    hook.update(show=show, wait_time=wait_time)
    scope = cfg.get('default_scope')
    if scope != 'mmdet':
        hook['interval'] = 1  # which counts in tests too
    hook['enable' if scope == 'mmpretrain' else 'draw'] = True
    if show_dir and scope == 'mmdet':
        # A relative one would be below the work dir.
        hook['test_out_dir'] = os.path.abspath(show_dir)
    elif show_dir and scope == 'mmpretrain':
        hook['out_dir'] = show_dir
    elif show_dir:
        if not cfg.get('visualizer'):
            backends = [dict(type='LocalVisBackend')]
            cfg.visualizer = dict(
                type='SegLocalVisualizer', vis_backends=backends
            )
        cfg.visualizer['save_dir'] = show_dir


def _augment(cfg: Config) -> None:
    """Turn on the config's test-time augmentation."""
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        raise LaunchError(
            '--tta needs tta_model and tta_pipeline in the config.'
        )
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in iter_datasets(cfg, 'test_dataloader'):
        dataset.pipeline = cfg.tta_pipeline
    evaluator = cfg.test_evaluator
    for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
        if 'segm' in (metric.get('metric') or []):
            metric.metric = 'bbox'
            print('--tta merges boxes only: masks are not evaluated.')
