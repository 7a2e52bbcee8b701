"""Read all that a work dir holds about its run."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from mmsmt.analysis.runs import (
    forget_later,
    iter_records,
    read_info,
    read_json,
    read_start_config,
)
from mmsmt.data.configured import TASKS
from mmsmt.errors import UserError
from mmsmt.runs.records import PREDICTIONS, RUN


class ReportError(UserError):
    """Error for a folder that holds no run."""


@dataclass
class RunLog:
    """Hold what is logged of a run, all its starts together.

    Args:
        name (str): Name of the work dir.
        folder (Path): The work dir.
        cfg (Config): The config of the last start.
        info (dict): What the last training recorded of config and machine, or
            the last test if there is none; and the hashes of annotations.
        training (list[dict]): Logged values of training, by iteration.
        scores (list[dict]): Logged scores of validations, by step.
        predictions (dict): Stored predictions, None if there are none.
        split (str): ``val`` or ``test``, of the predictions.
    """

    name: str
    folder: Path
    cfg: Config
    info: dict = field(default_factory=dict)
    training: list[dict] = field(default_factory=list)
    scores: list[dict] = field(default_factory=list)
    predictions: dict | None = None
    split: str = 'val'

    @property
    def task(self) -> str:
        """``detection``, ``segmentation``, ``classification`` or ''."""
        return TASKS.get(self.cfg.get('default_scope'), '')

    @property
    def total(self) -> tuple[str, int]:
        """Unit and number of epochs or iterations in the config."""
        loop = self.cfg.get('train_cfg') or {}
        if loop.get('max_epochs'):
            return 'epoch', loop['max_epochs']
        return 'iter', loop.get('max_iters') or 0

    @property
    def reached(self) -> int:
        """The last epoch or iteration, as far as the logs say."""
        unit, total = self.total
        if self.info.get('finished'):
            return total
        # A logged epoch has begun, and an iteration is over.
        begun = unit == 'epoch'
        logged = [line.get(unit, 0) - begun for line in self.training]
        validated = [line.get('step', 0) for line in self.scores]
        return int(max([0, *logged, *validated]))

    def iteration_of(self, step: float) -> int:
        """Return the iterations until an epoch's end, or those of a step."""
        unit, total = self.total
        if unit == 'iter':
            return int(step)
        return round(step / total * self.info.get('iterations', 0))

    def seconds(self) -> float:
        """Return the time of the logged iterations."""
        last, total = 0, 0.0
        for line in self.training:
            step = line.get('iter', 0)
            total += max(0, step - last) * line.get('time', 0)
            last = step
        return total


def read_run_log(folder: Path) -> RunLog:
    """Read a work dir, also that of a run that goes on or has failed.

    Args:
        folder (Path): The work dir.

    Raises:
        ReportError: It holds no run.
    """
    if not folder.is_dir():
        raise ReportError(f"There is no folder '{folder}'.")
    starts = sorted(
        path.parent.parent
        for path in folder.glob('*/vis_data/config.py')
        if path.is_file()
    )
    if not starts:
        raise ReportError(
            f"'{folder}' holds no run: it has no TIME/vis_data/config.py. "
            'Give the --work-dir of a training or a test.'
        )
    configs = map(read_start_config, reversed(starts))  # or cut off
    cfg = next(filter(None, configs), Config())
    run = RunLog(folder.resolve().name, folder, cfg)
    training: dict[int, dict] = {}
    scores: dict[int, dict] = {}
    infos: list[dict] = []
    for start in starts:
        records = list(iter_records(start / 'vis_data' / 'scalars.json'))
        forget_later(records, training, scores, run.total[0])
        for record in records:
            values = _numbers(record)
            if 'loss' in record and 'iter' in values:  # finite or not
                training[int(values['iter'])] = values
            elif 'step' in values:
                scores[int(values['step'])] = values
        infos.append(read_info(start))
    run.info = _join_infos(infos)
    run.training = [training[key] for key in sorted(training)]
    run.scores = [scores[key] for key in sorted(scores) if key]
    stored = [
        path
        for path in (folder / PREDICTIONS).glob('*.json')
        if path.stem in ('val', 'test')
    ]
    if stored:
        newest = max(stored, key=lambda path: path.stat().st_mtime)
        run.split, run.predictions = newest.stem, read_json(newest)
    return run


def read_run_info(folder: Path) -> dict:
    """Read what a work dir's run recorded of config and machine."""
    starts = sorted(path.parent for path in folder.glob(f'*/{RUN}'))
    return _join_infos([read_info(start) for start in starts])


def _join_infos(infos: list[dict]) -> dict:
    """Return what the last training recorded, and all hashes."""
    known: dict = {}
    for info in infos:
        known.update(info.get('annotations') or {})
    trained = [info for info in infos if 'images' in info]
    last = (trained or [info for info in infos if info] or [{}])[-1]
    return dict(last, annotations=known) if known else last


def curve_names(run: RunLog) -> dict[str, list[str]]:
    """Return the names of logged values, by chart."""
    names = {key for line in run.training for key in line}
    losses = sorted(x for x in names if 'loss' in x and x != 'loss')
    scores = sorted({key for line in run.scores for key in line})
    skip = ('data_time', 'time', 'epoch', 'iter', 'step', 'memory')
    return {
        'Losses': ['loss', *losses],
        'Learning rate': [x for x in ('lr',) if x in names],
        'Gradient norm': [x for x in ('grad_norm',) if x in names],
        'Scores': [x for x in scores if x not in skip],
    }


def _numbers(record: dict) -> dict[str, float]:
    """Return finite values, without COCO's -1 for sizes without objects."""
    return {
        key: value
        for key, value in record.items()
        if isinstance(value, (int, float))
        and math.isfinite(value)
        and not (key.startswith('coco/') and value < 0)
    }
