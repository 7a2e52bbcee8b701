"""What ``tools/train.py`` and ``tools/test.py`` share.

The runs themselves are mmengine's; here a config is made ready from the
command line, and what would break later is found first.
"""

import argparse
import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils import digit_version

from mmsmt import environment
from mmsmt.optim import cpu_has_bf16
from mmsmt.weights import CheckpointError, fetch_checkpoint, read_checkpoint


class LaunchError(RuntimeError):
    """A run cannot start, or would break later."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing have in common."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help='where the data set is, instead of where the config says',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, such as '
        'model.backbone.with_cp=True; lists as key="[a,b]" or key=a,b',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes (set by dist_train.sh and the like)',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS,
    )


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the common options.

    Raises:
        LaunchError: There is no such config, or its host is not installed.
        EnvironmentProblem: The installed packages do not go together, or the
            config's host is not installed.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    environment.check(needs=())
    if not Path(args.config).is_file():
        raise LaunchError(f"There is no config '{args.config}'.")
    try:
        cfg = Config.fromfile(args.config)
    except ModuleNotFoundError as error:  # a base of a host that is not there
        raise LaunchError(f"'{args.config}' cannot be read: {error}") from None
    host = cfg.get('default_scope')
    if host in environment.HOSTS:
        environment.check(needs=(host,))
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs', Path(args.config).stem))
    if args.data_root:
        set_data_root(cfg, args.data_root)
    hooks = list(cfg.get('custom_hooks') or [])
    for name in ('mmsmt.WholeCheckpointHook', 'mmsmt.SummaryHook'):
        if not any(hook.get('type') == name for hook in hooks):
            hooks.append(ConfigDict(type=name))
    cfg.custom_hooks = hooks
    return cfg


# Data ------------------------------------------------------------------------


def datasets(cfg: Config, loader: str) -> Iterator[ConfigDict]:
    """The data set settings under a loader, inside wrappers too."""
    todo = [(cfg.get(loader) or {}).get('dataset')]
    while todo:
        dataset = todo.pop()
        if isinstance(dataset, (list, tuple)):
            todo.extend(dataset)
        elif isinstance(dataset, dict):
            if 'data_root' in dataset or 'ann_file' in dataset:
                yield dataset
            todo += [dataset.get('dataset'), dataset.get('datasets')]


def kind(cfg: ConfigDict) -> str:
    """The bare name of a config's ``type``."""
    name = cfg.get('type')
    return str(getattr(name, '__name__', name)).split('.')[-1]


def set_data_root(cfg: Config, root: str) -> None:
    """Put the data somewhere else, in loaders and evaluators.

    Args:
        cfg (Config): Changed in place.
        root (str): The folder to use instead of every ``data_root``.
    """
    loaders = [f'{part}_dataloader' for part in ('train', 'val', 'test')]
    old = {
        dataset['data_root'].rstrip('/')
        for loader in loaders
        for dataset in datasets(cfg, loader)
        if dataset.get('data_root')
    }
    if isinstance(cfg.get('data_root'), str):
        old.add(cfg.data_root.rstrip('/'))
    old.discard('')
    root = os.path.join(root, '')

    def move(value):
        if isinstance(value, dict):
            for key, item in value.items():
                value[key] = move(item)
        elif isinstance(value, (list, tuple)):
            return type(value)(move(item) for item in value)
        elif isinstance(value, str):
            for prefix in sorted(old, key=len, reverse=True):
                if value == prefix:
                    return root
                if value.startswith(prefix + '/'):
                    return root + value[len(prefix) + 1 :]
        return value

    for part in ('train', 'val', 'test'):
        for name in (f'{part}_dataloader', f'{part}_evaluator'):
            if cfg.get(name) is not None:
                cfg[name] = move(cfg[name])
    if 'data_root' in cfg:
        cfg.data_root = root


_LAYOUTS: dict[str, tuple[str, str]] = {
    'CocoDataset': (
        'annotations/instances_train2017.json\n'
        'annotations/instances_val2017.json\n'
        'train2017/000000000009.jpg ...\n'
        'val2017/000000000139.jpg ...',
        'https://cocodataset.org/#download: train2017.zip, val2017.zip and '
        'annotations_trainval2017.zip',
    ),
    'ADE20KDataset': (
        'images/training/ADE_train_00000001.jpg ...\n'
        'images/validation/ADE_val_00000001.jpg ...\n'
        'annotations/training/ADE_train_00000001.png ...\n'
        'annotations/validation/ADE_val_00000001.png ...',
        'http://data.csail.mit.edu/places/ADEchallenge/'
        'ADEChallengeData2016.zip',
    ),
    'ImageNet21k': (
        'train/n00004475/n00004475_6590.JPEG ...',
        'https://image-net.org/download.php (fall 2011; registration)',
    ),
    'ImageNet': (
        'train/n01440764/n01440764_18.JPEG ...\n'
        'val/n01440764/ILSVRC2012_val_00000293.JPEG ...',
        'https://image-net.org/download.php (ILSVRC 2012; registration)',
    ),
}


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Find out in a moment whether the data is there.

    Args:
        cfg (Config): The config.
        loaders (tuple[str]): Names of the loaders that will be used.

    Raises:
        LaunchError: It names the path that is missing, the layout expected
            and where the data comes from.
    """
    for loader in loaders:
        for dataset in datasets(cfg, loader):
            if '://' in str(dataset.get('data_root')) or dataset.get(
                'backend_args'
            ):
                continue  # not on this disk
            for path in _paths(dataset):
                if path.exists():
                    continue
                name = kind(dataset)
                root = Path(dataset.get('data_root') or '.')
                text = (
                    f"The data of {loader} is not there: '{path}' is missing."
                )
                if name in _LAYOUTS:
                    layout, source = _LAYOUTS[name]
                    layout = layout.replace('\n', '\n    ')
                    what = 'coco' if name == 'CocoDataset' else 'the data set'
                    text += (
                        f'\n\n{name} expects under {root}/\n    {layout}\n\n'
                        f'Get it from {source}\n'
                        f'and put or link it there, or say where {what} is '
                        'with --data-root DIR.'
                    )
                raise LaunchError(
                    f'{text}\nTo see everything run without any download: '
                    'make demo'
                )


def _paths(dataset: ConfigDict) -> Iterator[Path]:
    root = Path(dataset.get('data_root') or '')
    if dataset.get('ann_file'):
        yield root / dataset['ann_file']
    prefix = dataset.get('data_prefix') or {}
    for part in prefix.values() if isinstance(prefix, dict) else [prefix]:
        yield root / (part or '')
    if 'ImageNet' in kind(dataset) and dataset.get('split') and not prefix:
        yield root / dataset['split']


# Processes -------------------------------------------------------------------


def use_gloo_without_gpus(cfg: Config) -> None:
    """Let several processes run on a machine without GPUs.

    mmengine sets the CUDA device of each process, which raises there; a
    process group that exists already is left alone.
    """
    if cfg.launcher == 'none' or torch.cuda.is_available():
        return
    if cfg.launcher == 'slurm':
        for name, slurm in (
            ('RANK', 'SLURM_PROCID'),
            ('WORLD_SIZE', 'SLURM_NTASKS'),
            ('LOCAL_RANK', 'SLURM_LOCALID'),
        ):
            os.environ[name] = os.environ[slurm]
        os.environ.setdefault('MASTER_PORT', '29500')
        if 'MASTER_ADDR' not in os.environ:
            nodes = ['scontrol', 'show', 'hostnames']
            nodes = subprocess.check_output(nodes, text=True)
            os.environ['MASTER_ADDR'] = nodes.split()[0]
    elif cfg.launcher != 'pytorch':
        raise LaunchError(f'--launcher {cfg.launcher} needs GPUs.')
    torch.distributed.init_process_group('gloo')
    cfg.merge_from_dict(
        dict(
            env_cfg=dict(dist_cfg=dict(backend='gloo')),
            model_wrapper_cfg=dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get(
                    'find_unused_parameters', False
                ),
            ),
        )
    )
    if _replace(cfg.model, 'type', 'SyncBN', 'BN') and is_main_process():
        print('Without GPUs, SyncBN is replaced by BN.')


def rank() -> int:
    """This process's number, known before a process group exists."""
    environ = os.environ
    return int(environ.get('RANK', environ.get('SLURM_PROCID', 0)))


def _replace(value, key: str, old: str, new: str) -> int:
    """Replace a setting everywhere below; how often."""
    count = 0
    if isinstance(value, dict):
        if value.get(key) == old:
            value[key] = new
            count += 1
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        count += sum(_replace(item, key, old, new) for item in value)
    return count


def keep_freed_memory() -> bool:
    """Make glibc keep the memory that a step frees for the next one.

    New pages have to be cleared, which takes a sixth of a training step on a
    CPU at detection size (docs/performance.md); the peak does not change.
    Left alone where the user has set malloc's variables.

    Returns:
        bool: Whether glibc agreed; False with another C library.
    """
    tuned = [key for key in os.environ if key.startswith('MALLOC_')]
    if tuned or 'glibc.malloc' in os.environ.get('GLIBC_TUNABLES', ''):
        return False
    if platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3  # as in malloc.h
    # Never trimmed; mapped on its own from 1 GiB on, or from the 32 MiB that
    # old versions allow.
    mapped = any(mallopt(mmap_threshold, 2**n) for n in (30, 25))
    return bool(mapped and mallopt(trim_threshold, -1))


def fuse_optimizer(cfg: Config) -> None:
    """Let a CPU update all parameters of a group in one kernel.

    The equations are the same. mmengine makes a group of each parameter, so
    that PyTorch's loops over them take up to a tenth of a small step.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer') or {}
    if (
        optimizer.get('type') in ('Adam', 'AdamW', 'SGD')
        and not {'fused', 'foreach', 'capturable'} & set(optimizer)
        and digit_version(torch.__version__) >= digit_version('2.4')
    ):
        optimizer['fused'] = True


def build_runner(cfg: Config) -> Runner:
    """Build the config's runner."""
    if not torch.cuda.is_available():
        keep_freed_memory()
    use_gloo_without_gpus(cfg)
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


def run(main: Callable[[], None]) -> None:
    """Run a command line; errors that say what to do come without a trace."""
    try:
        main()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    except (
        LaunchError,
        CheckpointError,
        environment.EnvironmentProblem,
    ) as error:
        sys.stdout.flush()
        sys.exit(f'\nError: {error}')


def read_safely(checkpoint: str) -> str:
    """Read a checkpoint once before mmengine does, which may run its code.

    Returns:
        str: The local file.

    Raises:
        CheckpointError: It is damaged, or a pickle that would call a function.
    """
    if '://' in checkpoint and urlparse(checkpoint).scheme not in (
        'http',
        'https',
    ):
        raise LaunchError(
            f"'{checkpoint}' cannot be checked before it is loaded: fetch it "
            'and give the local file.'
        )
    path = fetch_checkpoint(checkpoint)
    if rank() == 0:
        read_checkpoint(path)
    return str(path)


# Training and testing --------------------------------------------------------


def prepare_training(
    cfg: Config,
    amp: bool = False,
    auto_scale_lr: bool = False,
    resume: str | None = None,
) -> None:
    """Apply the options of training, and check what can be checked.

    Args:
        cfg (Config): Changed in place.
        amp (bool): Automatic mixed precision: on a GPU float16 with loss
            scaling, on a CPU bfloat16.
        auto_scale_lr (bool): Scale the learning rate to the batch.
        resume (str, optional): A checkpoint, or ``auto`` for the last one in
            the work dir.

    Raises:
        LaunchError: Something would break, or overwrite an earlier run.
    """
    if amp:
        if torch.cuda.is_available():
            cfg.optim_wrapper.type = 'AmpOptimWrapper'
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
        else:
            cfg.optim_wrapper.type = 'mmsmt.CPUAmpOptimWrapper'
            for key in ('loss_scale', 'dtype'):  # of a GPU's
                cfg.optim_wrapper.pop(key, None)
            if not cpu_has_bf16() and rank() == 0:
                print(
                    '--amp: this CPU has no instructions for bfloat16, which '
                    'is slower than float32 here.'
                )
    if not torch.cuda.is_available():
        fuse_optimizer(cfg)
    if auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise LaunchError(
                '--auto-scale-lr needs auto_scale_lr.base_batch_size in the '
                'config: the batch its learning rate is for.'
            )
        cfg.auto_scale_lr.enable = True
        # mmengine compares with the batch of one iteration.
        accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
        cfg.auto_scale_lr.base_batch_size /= accumulate
    if resume == 'auto':
        cfg.resume, cfg.load_from = True, None
    elif resume:
        if not Path(resume).is_file():
            raise LaunchError(f"There is no checkpoint '{resume}' to resume.")
        cfg.resume, cfg.load_from = True, resume
    if cfg.get('load_from'):
        cfg.load_from = read_safely(cfg.load_from)
    last = Path(cfg.work_dir, 'last_checkpoint')
    if last.is_file() and not cfg.get('resume'):
        raise LaunchError(
            f"'{cfg.work_dir}' holds a run already, up to "
            f'{Path(last.read_text().strip()).name}. Use --resume to go on '
            'with it, or another --work-dir.'
        )
    loaders = ['train_dataloader']
    if cfg.get('val_cfg'):
        loaders.append('val_dataloader')
    check_data(cfg, tuple(loaders))


def prepare_testing(
    cfg: Config,
    checkpoint: str,
    show: bool = False,
    show_dir: str | None = None,
    wait_time: float = 2,
    tta: bool = False,
) -> None:
    """Apply the options of testing, and check what can be checked.

    Args:
        cfg (Config): Changed in place.
        checkpoint (str): File or URL of a trained model.
        show (bool): Show pictures in a window.
        show_dir (str, optional): Save pictures under this folder.
        wait_time (float): Seconds to show each.
        tta (bool): Test-time augmentation, as the config has it.

    Raises:
        LaunchError: Something is missing.
    """
    if '://' not in checkpoint and not Path(checkpoint).is_file():
        raise LaunchError(f"There is no checkpoint '{checkpoint}'.")
    if not cfg.get('test_dataloader'):
        raise LaunchError(f"'{cfg.filename}' has no test data.")
    cfg.load_from, cfg.resume = read_safely(checkpoint), False
    check_data(cfg, ('test_dataloader',))
    if show or show_dir:
        _draw(cfg, show, show_dir, wait_time)
    if tta:
        _augment(cfg)


def _draw(
    cfg: Config, show: bool, show_dir: str | None, wait_time: float
) -> None:
    """Turn on the host's visualization hook; each has its own words."""
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise LaunchError('The config has no visualization hook to draw with.')
    hook.update(show=show, wait_time=wait_time)
    scope = cfg.get('default_scope')
    hook['enable' if scope == 'mmpretrain' else 'draw'] = True
    if show_dir and scope == 'mmdet':
        hook['test_out_dir'] = show_dir
    elif show_dir and scope == 'mmpretrain':
        hook['out_dir'] = show_dir
    elif show_dir:
        cfg.visualizer['save_dir'] = show_dir


def _augment(cfg: Config) -> None:
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        raise LaunchError(
            '--tta needs tta_model and tta_pipeline in the config.'
        )
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in datasets(cfg, 'test_dataloader'):
        dataset.pipeline = cfg.tta_pipeline
    evaluator = cfg.test_evaluator
    for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
        if 'segm' in (metric.get('metric') or []):
            metric.metric = 'bbox'
            print('--tta merges boxes only: masks are not evaluated.')
