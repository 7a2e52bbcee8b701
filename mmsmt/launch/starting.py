"""Decide where a run starts, and protect what is in its work dir."""

from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config
from mmengine.dist import get_world_size

from mmsmt.data.configured import SPLITS, type_name
from mmsmt.runs.checkpoints import Checkpoint, describe, find_all, find_newest

from .checkpoints import read_safely
from .config import LaunchError

SAFE = {
    'checkpoint': 'CheckpointHook',
    'param_scheduler': 'ParamSchedulerHook',
}
"""Default hooks of mmengine that mmsmt's replace, by their keys."""


class Start(NamedTuple):
    """Checkpoint and seed that a run starts from.

    Args:
        load_from (str | None): A checkpoint.
        resume (bool): Resume its run.
        seed (int | None): Seed of the run that is resumed.
    """

    load_from: str | None
    resume: bool = False
    seed: int | None = None

    def apply(self, cfg: Config) -> None:
        """Set a config's start.

        Args:
            cfg (Config): The config, changed in place.
        """
        cfg.load_from, cfg.resume = self.load_from, self.resume
        given = cfg.get('randomness') or {}
        if self.seed is not None and given.get('seed') is None:
            cfg.randomness = dict(given, seed=self.seed)


def checkpoint_folder(cfg: Config) -> Path:
    """Return the folder where a config's checkpoints are saved."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    folder = Path(cfg.work_dir)
    if hook.get('out_dir'):  # as mmengine joins them
        folder = Path(hook['out_dir'], folder.name)
    return folder


def choose_start(
    cfg: Config, resume: str | None, finetune: str | None
) -> Start:
    """Choose the checkpoint to start from; print what is passed over.

    Args:
        cfg (Config): The config.
        resume (str, optional): A checkpoint, or ``auto`` for the newest whole
            one of the work dir.
        finetune (str, optional): A checkpoint whose matching weights are
            loaded, unless there is one to resume.

    Returns:
        Start: Where to start.

    Raises:
        LaunchError: The checkpoint to resume is missing, or the run would
            overwrite what another left in the work dir.
        CheckpointError: A checkpoint cannot be read.
    """
    folder = checkpoint_folder(cfg)
    if resume is None and cfg.get('resume'):  # of the config itself
        resume = cfg.get('load_from') or 'auto'
    if resume == 'auto':
        newest, problems = find_newest(folder)
        for problem in problems:
            print(f'Passed over: {problem}')
        if newest:
            return _resume(cfg, newest)
        if problems:
            raise LaunchError(
                f"No checkpoint in '{folder}' is whole. To start again, use "
                'another --work-dir, or move them away.'
            )
        print(
            f"There is no checkpoint in '{folder}' to resume: the run starts "
            f'from {finetune or cfg.get("load_from") or "the beginning"}.'
        )
    elif resume:
        return _resume_from(cfg, folder, resume)
    present, problems = find_all(folder)
    best = sorted(path.name for path in folder.glob('best_*.pth'))
    if present or problems or best:
        names = [checkpoint.path.name for checkpoint in present] + best
        last = names[0] if names else 'damaged checkpoints'
        raise LaunchError(
            f"'{cfg.work_dir}' holds a run already, up to {last}. Use "
            '--resume to resume it, or another --work-dir.'
        )
    if finetune:
        return Start(finetune)
    return Start(cfg.get('load_from'))


def _resume_from(cfg: Config, folder: Path, name: str) -> Start:
    """Resume a given checkpoint, of this work dir or another."""
    if '://' not in name and not Path(name).is_file():
        raise LaunchError(f"There is no checkpoint '{name}' to resume.")
    path = Path(read_safely(name))
    checkpoint = describe(path)
    if checkpoint is None:
        raise LaunchError(
            f"'{name}' holds weights, but no run to resume. To start from "
            'them: --cfg-options load_from=FILE'
        )
    here = path.parent.resolve() == folder.resolve()
    later = [
        other.path.name
        for other in find_all(folder)[0]
        if not here or other.iteration > checkpoint.iteration
    ]
    if later:
        raise LaunchError(
            f"'{folder}' holds {later[0]}, which the run would overwrite. Use "
            'another --work-dir, or move it away.'
        )
    return _resume(cfg, checkpoint)


def _resume(cfg: Config, checkpoint: Checkpoint) -> Start:
    """Resume a checkpoint; print what cannot be as in the unbroken run."""
    differences = []
    processes = get_world_size()
    if checkpoint.processes not in (None, processes):
        differences.append(f'{checkpoint.processes} -> {processes} processes')
    batch = cfg.train_dataloader.get('batch_size')
    if None not in (checkpoint.batch, batch) and checkpoint.batch != batch:
        differences.append(f'{checkpoint.batch} -> {batch} images a process')
    seed = (cfg.get('randomness') or {}).get('seed')
    if None not in (checkpoint.seed, seed) and checkpoint.seed != seed:
        differences.append(f'seed {checkpoint.seed} -> {seed}')
    if differences:
        print(
            f"'{checkpoint.path.name}' is resumed with "
            f'{", ".join(differences)}: the run will not equal the unbroken '
            'one.'
        )
    return Start(str(checkpoint.path), True, checkpoint.seed)


def protect(cfg: Config) -> None:
    """Replace mmengine's hooks and loops by those that lose nothing.

    Args:
        cfg (Config): The config, changed in place; other kinds stay.
    """
    if cfg.get('default_hooks') is None:
        cfg.default_hooks = {}
    hooks = cfg.default_hooks  # a ConfigDict, which copies what is assigned
    for name, kind in SAFE.items():
        hooks.setdefault(name, dict(type=kind))
        hook = hooks[name]
        if hook and type_name(hook) == kind:
            hook['type'] = f'mmsmt.Safe{kind}'
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader') or {}
        if not loader.get('num_workers'):  # torch refuses what needs workers
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)
    loop = cfg.get('train_cfg') or {}
    kind = type_name(loop)
    if 'by_epoch' in loop:
        by_epoch = loop.pop('by_epoch')
        kind = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
    ours = {
        'EpochBasedTrainLoop': 'mmsmt.EpochTrainLoop',
        'IterBasedTrainLoop': 'mmsmt.IterTrainLoop',
    }
    if kind in ours:
        loop['type'] = ours[kind]
