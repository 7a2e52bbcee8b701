"""Train the configs of a comparison, one after the other, resuming."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from mmsmt.demo.progress import run_with_progress
from mmsmt.report.runs import ReportError, read_run_log
from mmsmt.runs.files import write_text

from .backbones import CompareError

SCORES = ('coco/bbox_mAP', 'coco/segm_mAP', 'mIoU', 'accuracy/top1')
"""Scores that a comparison shows, of those that a run logs."""


@dataclass
class Point:
    """Scores of a validation.

    Args:
        images (int): Training images that were seen, repeated ones too.
        seconds (float): Time of the training iterations until then.
        scores (dict[str, float]): Values by their logged names.
    """

    images: int
    seconds: float
    scores: dict[str, float]


@dataclass
class Trial:
    """A training of a comparison.

    Args:
        name (str): Name of the backbone.
        config (Path): Its config.
        seed (int): Seed of the run.
        rate (float): Learning rate.
        folder (Path): Its work dir.
        points (list[Point]): Validations.
    """

    name: str
    config: Path
    seed: int
    rate: float
    folder: Path
    points: list[Point] = field(default_factory=list)

    @property
    def last(self) -> dict[str, float]:
        """Scores of the last validation."""
        return self.points[-1].scores


def write_config(cfg: Config, path: Path) -> None:
    """Write a config of a comparison, or compare it with the one there.

    Raises:
        CompareError: There is another one.
    """
    text = cfg.pretty_text
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    elif path.read_text() != text:
        raise CompareError(
            f"'{path}' is of a comparison with other settings. Give another "
            '--work-dir.'
        )


def train(trial: Trial, options: Iterable[str] = ()) -> None:
    """Train and evaluate, unless it is done, and read the scores.

    Args:
        trial (Trial): The run; its points are set.
        options (Iterable[str]): More options of ``train``.

    Raises:
        UserError: The run failed; the message has the end of its output.
    """
    trial.points = read_points(trial.folder)
    if trial.points:
        return
    cfg = Config.fromfile(trial.config)
    loop = cfg.train_cfg
    run_with_progress(
        [
            *(sys.executable, '-m', 'mmsmt', 'train', trial.config),
            *('--work-dir', trial.folder, '--resume', '--no-report'),
            *(*options, '--cfg-options', f'randomness.seed={trial.seed}'),
            f'optim_wrapper.optimizer.lr={trial.rate!r}',
        ],
        f'{trial.name}, seed {trial.seed}',
        trial.folder / 'train.log',
        loop.get('max_epochs') or loop.max_iters,
    )
    trial.points = read_points(trial.folder)
    if not trial.points:
        raise CompareError(
            f"'{trial.folder}' has no validation at the end of its training."
        )


def read_points(folder: Path) -> list[Point]:
    """Return the validations of a finished run, else nothing."""
    try:
        run = read_run_log(folder)
    except ReportError:
        return []
    if not run.scores or run.scores[-1]['step'] != run.total[1]:
        return []
    loader = run.cfg.train_dataloader
    points = []
    for record in run.scores:
        end = run.iteration_of(record['step'])
        points.append(
            Point(
                images=end * loader.batch_size,
                seconds=run.seconds(end),
                scores={k: v for k, v in record.items() if k in SCORES},
            )
        )
    return points
