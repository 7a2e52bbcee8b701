"""Check the datasets of a config, before hours are spent on them.

    mmsmt check configs/mask_rcnn_smt_s_1x.py --data-root /path/to/data

Compares annotations, images, evaluators and the model's classes with each
other, and prints a table of the contents. The exit status is 1 if a run would
fail or train something wrong. Training, testing and rehearsals run it too.
"""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmengine.config import Config

from mmsmt.data.check import check_config
from mmsmt.data.configured import SPLITS
from mmsmt.data.findings import Findings
from mmsmt.data.summary import Summary, format_summaries
from mmsmt.runtimes.files import find_format, open_runtime
from mmsmt.weights import read_classes
from mmsmt.weights.reading import summarize

from .config import (
    LaunchError,
    add_cfg_options,
    add_data_root,
    load_config,
)
from .ranks import launched_rank


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line of ``check``."""
    parser.add_argument('config', help='config file')
    add_data_root(parser)
    add_cfg_options(parser)


def main(args: argparse.Namespace) -> None:
    """Run ``check``."""
    cfg = load_config(
        args.config, cfg_options=args.cfg_options, data_root=args.data_root
    )
    if not any(cfg.get(f'{split}_dataloader') for split in SPLITS):
        raise LaunchError(f"'{args.config}' has no dataloader: no data.")
    read = check_data(cfg, classes=True)
    print('The data is fine.' if read else 'No data was checked; see above.')


def check_data(
    cfg: Config,
    splits: Iterable[str] = SPLITS,
    checkpoint: str | None = None,
    classes: bool = False,
    resumed: bool = False,
) -> bool:
    """Check a config's data in the first process; print what it holds.

    The others go on to wait for it when they join their group.

    Args:
        cfg (Config): The config.
        splits (Iterable[str]): Those of ``train``, ``val``, ``test`` to check.
        checkpoint (str, optional): The file that the run starts from; its
            classes are compared with the data's.
        classes (bool): Print the number of objects of each class.
        resumed (bool): The run is resumed from the checkpoint.

    Returns:
        bool: Whether a dataset was read.

    Raises:
        DataError: There are faults; the message lists them all.
    """
    if launched_rank():
        return True
    findings, summaries = check_config(cfg, splits)
    if checkpoint:
        check_classes_of(checkpoint, summaries, findings, resumed)
    for line in format_summaries(summaries, classes):
        print(line)
    for finding in findings:
        if not finding.error:
            print(finding)
    findings.raise_errors()
    return bool(summaries)


def check_classes_of(
    checkpoint: str,
    summaries: Mapping[str, Summary],
    findings: Findings,
    resumed: bool = False,
) -> None:
    """Compare the classes of a checkpoint with those of the data.

    Args:
        checkpoint (str): The file, of mmengine or of ``mmsmt export``.
        summaries (Mapping[str, Summary]): Contents by split.
        findings (Findings): Extended in place.
        resumed (bool): A run is resumed from it, which needs the same ones.
    """
    exported = bool(find_format(Path(checkpoint)))
    before: tuple[str, ...] | None
    if exported:  # its number of classes is nowhere else
        before = tuple(open_runtime(Path(checkpoint)).description.classes)
    else:
        before = read_classes(checkpoint)
    named = [data.classes for data in summaries.values() if data.classes]
    if before is None or not named:
        return
    now = named[0]
    if before == now:
        return
    names = f'({summarize(before, 6)}) and the data ({summarize(now, 6)})'
    if sorted(map(str, before)) == sorted(map(str, now)):
        findings.error(
            checkpoint,
            f'it has the classes {names}, which are the same in another order',
            f'Write the classes in the order of the checkpoint: {before!r}.',
        )
    elif exported and len(before) != len(now):
        findings.error(checkpoint, f'it has the classes {names}')
    elif resumed:
        findings.error(
            checkpoint,
            f'the run to resume has the classes {names}',
            'Resume with the data of that run, or use another --work-dir.',
        )
    elif 'test' in summaries:
        findings.warn(checkpoint, f'it has the classes {names}')
