"""Read a config and apply the options that training and testing share."""

import argparse
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction

from mmsmt import environment
from mmsmt.data.configured import (
    require_one_root,
    set_data_root,
    type_name,
)
from mmsmt.data.variables import explain_option
from mmsmt.errors import UserError

from .ranks import set_launcher

OUR_HOOKS = (
    'mmsmt.WholeCheckpointHook',
    'mmsmt.SummaryHook',
    'mmsmt.GuardHook',
    'mmsmt.ScheduleHook',
    'mmsmt.PredictionHook',
)


class LaunchError(UserError):
    """Error for a run that cannot start or would fail later."""


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing have in common."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    add_data_root(parser)
    add_cfg_options(parser)
    add_no_check(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher of the processes (set by dist_train.sh and similar)',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS,
    )


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Add the option that replaces the folder of the dataset."""
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help="folder of the dataset, instead of the config's",
    )


def add_no_check(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves out the check of the data."""
    parser.add_argument(
        '--no-check',
        action='store_true',
        help='start without checking the data',
    )


class _Settings(DictAction):
    """mmengine's action, with a message for what is no setting."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, *option: Any
    ) -> None:
        wrong = [value for value in values if '=' not in value]
        if wrong:
            parser.error(f"--cfg-options: '{wrong[0]}' is not KEY=VALUE")
        super().__call__(parser, namespace, values, *option)


def positive(text: str) -> int:
    """Parse an argument that is 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} is not 1 or more')
    return value


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add the option that overrides settings of the config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Settings,
        metavar='KEY=VALUE',
        help='override settings of the config, such as '
        'model.backbone.with_cp=True; lists as key="[a,b]" or key=a,b',
    )


def load_config(
    path: str,
    *,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
    data_root: str | None = None,
    launcher: str = 'none',
    local_rank: int = 0,
    default_work_dir: str | None = None,
) -> Config:
    """Read a config and apply the common options.

    Args:
        path (str): The config file.
        cfg_options (dict, optional): Settings to override, by dotted key.
        work_dir (str, optional): Folder for logs and checkpoints.
        data_root (str, optional): Folder of the dataset.
        launcher (str): ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        local_rank (int): Rank of this process on its node.
        default_work_dir (str, optional): Folder if neither ``work_dir`` nor
            the config has one, instead of ``work_dirs`` and its name (of
            ``config.py``, its folder's name).

    Raises:
        LaunchError: The config is missing or cannot be read, or an option
            cannot be applied or would have no effect.
        EnvironmentProblem: The installed packages are incompatible, or the
            config's host is not installed.
    """
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    environment.check(needs=())
    if not Path(path).is_file():
        raise LaunchError(f"There is no config '{path}'.")
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # it is a program: anything may be raised
        kind = type(error).__name__
        raise LaunchError(
            f"'{path}' cannot be read: {kind}: {error}"
        ) from error
    host = cfg.get('default_scope')
    if host in environment.HOSTS:
        environment.check(needs=(host,))
    add_our_hooks(cfg)
    if cfg_options:
        apply_options(cfg, cfg_options)
        add_our_hooks(cfg)  # if the options replaced the list
    cfg.launcher = launcher
    set_launcher(launcher)
    if work_dir:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        name = Path(path).stem
        if name == 'config':  # of mmsmt data, in a folder for each dataset
            name = Path(path).resolve().parent.name or name
        cfg.work_dir = default_work_dir or str(Path('work_dirs', name))
    if data_root:
        require_one_root(cfg)
        set_data_root(cfg, data_root)
    return cfg


def apply_options(cfg: Config, options: dict) -> None:
    """Override settings of a config.

    Args:
        cfg (Config): The config, changed in place.
        options (dict): Values by dotted key.

    Raises:
        LaunchError: An option cannot be applied or would have no effect.
    """
    for key, value in options.items():
        reason, certain = explain_option(cfg, key)
        if reason and certain:
            raise LaunchError(f'--cfg-options {key}={value}: {reason}.')
        if reason:
            print(
                f'--cfg-options {key}={value}: {reason}. It has no effect, '
                'unless code of your own reads it.'
            )
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError) as error:
            text = error.args[0] if error.args else error
            raise LaunchError(
                f'--cfg-options {key}={value} cannot be applied: {text}'
            ) from error


def load_config_of(
    args: argparse.Namespace, default_work_dir: str | None = None
) -> Config:
    """Read the config of a command line; see :func:`load_config`."""
    return load_config(
        args.config,
        cfg_options=args.cfg_options,
        work_dir=args.work_dir,
        data_root=args.data_root,
        launcher=args.launcher,
        local_rank=args.local_rank,
        default_work_dir=default_work_dir,
    )


def require_training(cfg: Config) -> None:
    """Require the parts of a config that a training needs.

    Raises:
        LaunchError: One is missing.
    """
    needed = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    missing = [name for name in needed if not cfg.get(name)]
    if missing:
        raise LaunchError(
            f"'{cfg.filename}' has no {', '.join(missing)}: no training."
        )


def require_whole_checkpoint(cfg: Config, strict: bool) -> None:
    """Require checkpoints that fit the whole model, or allow others.

    Args:
        cfg (Config): The config, changed in place.
        strict (bool): False to load the matching weights.
    """
    for hook in cfg.custom_hooks:
        if type_name(hook) == 'WholeCheckpointHook':
            hook.strict = strict


def add_our_hooks(cfg: Config) -> None:
    """Append the hooks of every run, unless the config has them."""
    hooks = list(cfg.get('custom_hooks') or [])
    present = {type_name(hook) for hook in hooks}
    for name in OUR_HOOKS:
        if name.split('.')[-1] not in present:
            hooks.append(ConfigDict(type=name))
    cfg.custom_hooks = hooks
