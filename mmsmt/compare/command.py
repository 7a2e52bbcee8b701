"""Compare backbones in one model: same data, schedule and seeds.

    mmsmt compare CONFIG --work-dir DIR --backbones smt-t resnet-50 --seeds 0 1

Each backbone is trained from scratch with each seed, by the train command; the
same command resumes a comparison that was interrupted. Writes a table of
means and spreads, curves over images and over time, and all figures as JSON.
Several learning rates are tried with the first seed, for each backbone; the
other seeds take its best.
"""

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmsmt.data.configured import type_name
from mmsmt.data.settings import list_metrics
from mmsmt.errors import UsageError
from mmsmt.launch.config import (
    add_cfg_options,
    add_data_root,
    load_config,
    positive,
)
from mmsmt.runs.signals import Stopper, StopRun

from .backbones import (
    BACKBONES,
    CompareError,
    count_parameters,
    exchange_backbone,
    find_backbones,
    forget_weights,
)
from .summary import write_results
from .trials import SCORES, Trial, run_trials, write_trial_config

DEFAULT = ('smt-t', 'resnet-50', 'swin-t', 'convnext-t', 'pvtv2-b2')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``compare``."""
    parser.add_argument('config', help='config of a model with an SMT')
    parser.add_argument(
        '--work-dir', type=Path, required=True, help='folder of all runs'
    )
    parser.add_argument(
        '--backbones',
        nargs='+',
        default=DEFAULT,
        metavar='NAME',
        help=f'of {", ".join(BACKBONES)} (default: {" ".join(DEFAULT)})',
    )
    parser.add_argument(
        '--add',
        metavar='FILE',
        help='a config with more: backbones = dict(NAME=dict(type=...))',
    )
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=(0, 1, 2), metavar='N'
    )
    parser.add_argument(
        '--lr',
        nargs='+',
        type=float,
        metavar='RATE',
        help="learning rates to try (default: the config's)",
    )
    parser.add_argument(
        '--amp', action='store_true', help='automatic mixed precision'
    )
    parser.add_argument(
        '--jobs',
        type=positive,
        default=1,
        metavar='N',
        help='runs at a time, on a GPU each or on a part of the cores '
        '(default: 1)',
    )
    add_data_root(parser)
    add_cfg_options(parser)


def main(args: argparse.Namespace) -> None:
    """Run ``compare``."""
    if len(set(args.seeds)) < len(args.seeds):
        raise UsageError('--seeds: a seed is given twice')
    base = load_config(
        args.config, cfg_options=args.cfg_options, data_root=args.data_root
    )
    if not base.get('val_dataloader'):
        raise CompareError(f"'{args.config}' has no validation.")
    _check_scores(base)
    for setting in forget_weights(base):
        print(f'From scratch: without {setting}')
    configs, parameters = {}, {}
    for name, backbone in find_backbones(args.backbones, args.add).items():
        cfg = copy.deepcopy(base)
        exchange_backbone(cfg, backbone)
        hooks = cfg.get('default_hooks') or {}
        saving = hooks.get('checkpoint') or dict(type='CheckpointHook')
        saving = dict(saving, max_keep_ckpts=1)
        cfg.default_hooks = dict(hooks, checkpoint=saving)
        parameters[name] = count_parameters(cfg)
        configs[name] = args.work_dir / name / 'config.py'
        write_trial_config(cfg, configs[name])
    rates = args.lr or [base.optim_wrapper.optimizer.get('lr')]
    if rates == [None]:
        raise UsageError('--lr: the config gives no learning rate')
    options = ['--amp'] if args.amp else []

    def make(name: str, seed: int, rate: float) -> Trial:
        folder = f'lr_{rate:g}' + ('_amp' if args.amp else '')
        work_dir = configs[name].parent / folder / f'seed_{seed}'
        return Trial(name, configs[name], seed, rate, work_dir)

    settings = dict(
        config=args.config,
        backbones=list(configs),
        seeds=list(args.seeds),
        rates=rates,
        amp=args.amp,
        jobs=args.jobs,
        cfg_options=args.cfg_options,
        data_root=args.data_root,
    )
    first, *others = args.seeds
    trials = [make(name, first, rate) for name in configs for rate in rates]
    stopper = Stopper()
    try:
        with stopper.installed():
            run_trials(trials, options, args.jobs)
        chosen = choose_rates(trials)
        if not chosen:
            raise CompareError(f'Every run failed:\n{trials[0].failure}')
        best = {trial.name: trial.rate for trial in chosen}
        # Backbones begin with a seed before one begins with the next.
        more = [make(name, s, best[name]) for s in others for name in best]

        def write() -> str:
            runs = [*chosen, *(trial for trial in more if trial.points)]
            failed = [run for run in (*trials, *more) if run.failure]
            return write_results(
                args.work_dir, runs, trials, failed, parameters, settings
            )

        def write_rounds() -> None:
            done = sum(bool(trial.points) for trial in more)
            if done < len(more) and done % len(best) == 0:
                write()

        write_rounds()
        with stopper.installed():
            run_trials(more, options, args.jobs, write_rounds)
    except (KeyboardInterrupt, StopRun):
        raise CompareError(
            'Interrupted. The same command resumes from here.'
        ) from None
    text = write()
    print(f'\n{text}\nCurves: {args.work_dir / "curves.png"}')
    if any(trial.failure for trial in (*trials, *more)):
        raise SystemExit(1)


def _check_scores(cfg: Config) -> None:
    """Check for a score that can be compared, at the end of every run."""
    names = list_metrics(cfg)
    if names is not None and not set(names) & set(SCORES):
        raise CompareError(
            f'The validation gives {", ".join(names)}; a comparison needs one '
            f'of {", ".join(SCORES)}.'
        )
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook) == 'EarlyStoppingHook':
            raise CompareError(
                'EarlyStoppingHook in custom_hooks would end runs at '
                'different lengths. Leave it out.'
            )


def choose_rates(trials: Sequence[Trial]) -> list[Trial]:
    """Return the run with the best score of each backbone that has one."""
    best: dict[str, Trial] = {}
    for trial in trials:
        if not trial.points:
            continue
        score = next(key for key in SCORES if key in trial.last)
        other = best.setdefault(trial.name, trial)
        if trial.last[score] > other.last[score]:
            best[trial.name] = trial
    return list(best.values())
