"""Compare backbones in one model: same data, schedule and seeds.

    mmsmt compare CONFIG --work-dir DIR --backbones smt-t resnet-50 --seeds 0 1

Each backbone is trained from scratch with each seed, by the train command; the
same command goes on with a comparison that was interrupted. Writes a table of
means and spreads, curves over images and over time, and all figures as JSON.
Several learning rates are tried with the first seed, for each backbone; the
other seeds take its best.
"""

import argparse
import copy
from pathlib import Path

from mmsmt.errors import UsageError
from mmsmt.launch.config import add_cfg_options, add_data_root, load_config

from .backbones import (
    BACKBONES,
    CompareError,
    count_parameters,
    exchange_backbone,
    find_backbones,
)
from .summary import write_results
from .trials import SCORES, Trial, train, write_config

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
    configs, parameters = {}, {}
    for name, backbone in find_backbones(args.backbones, args.add).items():
        cfg = copy.deepcopy(base)
        exchange_backbone(cfg, backbone)
        cfg.default_hooks.checkpoint.max_keep_ckpts = 1
        parameters[name] = count_parameters(cfg)
        configs[name] = args.work_dir / name / 'config.py'
        write_config(cfg, configs[name])
    rates = args.lr or [base.optim_wrapper.optimizer.lr]
    options = ['--amp'] if args.amp else []

    def run(name: str, seed: int, rate: float) -> Trial:
        folder = configs[name].parent / f'lr_{rate:g}' / f'seed_{seed}'
        trial = Trial(name, configs[name], seed, rate, folder)
        print(f'{name}, seed {seed}, learning rate {rate:g}', flush=True)
        try:
            train(trial, options)
        except KeyboardInterrupt:
            raise CompareError(
                'Interrupted. The same command goes on from here.'
            ) from None
        return trial

    settings = dict(
        config=args.config,
        backbones=list(configs),
        seeds=list(args.seeds),
        rates=rates,
        amp=args.amp,
        cfg_options=args.cfg_options,
        data_root=args.data_root,
    )
    chosen: list[Trial] = []
    tried: list[Trial] = []
    best: dict[str, float] = {}
    # All backbones have the first seed before one has the second.
    for seed in args.seeds:
        for name in configs:
            if name in best:
                chosen.append(run(name, seed, best[name]))
                continue
            runs = [run(name, seed, rate) for rate in rates]
            score = next(key for key in SCORES if key in runs[0].last)
            first = max(runs, key=lambda trial: trial.last[score])
            best[name] = first.rate
            chosen.append(first)
            tried += [trial for trial in runs if trial is not first]
        text = write_results(
            args.work_dir, chosen, tried, parameters, settings
        )
    print(f'\n{text}\nCurves: {args.work_dir / "curves.png"}')
