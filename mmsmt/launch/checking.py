"""Check the datasets of a config, before hours are spent on them.

    mmsmt check configs/mask_rcnn_smt_s_1x.py --data-root /path/to/data

Compares annotations, images, evaluators and the model's classes with each
other, and prints a table of the contents. The exit status is 1 if a run would
fail or train something wrong.
"""

import argparse

from mmsmt.data.check import check_config
from mmsmt.data.summary import format_summaries

from .config import add_cfg_options, load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line of ``check``."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help="folder of the dataset, instead of the config's",
    )
    add_cfg_options(parser)


def main(args: argparse.Namespace) -> None:
    """Run ``check``."""
    cfg = load_config(
        args.config, cfg_options=args.cfg_options, data_root=args.data_root
    )
    findings, summaries = check_config(cfg)
    for line in format_summaries(summaries):
        print(line)
    for finding in findings:
        if not finding.error:
            print(finding)
    findings.raise_errors()
    print('The data is fine.')
