"""Train the configs of a comparison, one after the other, resuming."""

import os
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from threading import Event

from mmengine.config import Config

from mmsmt.demo.progress import run_with_progress
from mmsmt.environment import count_cores, gpu_count
from mmsmt.errors import UserError
from mmsmt.report.runs import ReportError, read_run_info, read_run_log
from mmsmt.runs.files import write_text

from .backbones import CompareError

SCORES = (
    'coco/bbox_mAP',
    'coco/bbox_mAP_50',
    'coco/segm_mAP',
    'mIoU',
    'accuracy/top1',
)
"""Scores that a comparison shows, of those that a run logs."""


@dataclass
class Point:
    """Scores of a validation.

    Args:
        images (int): Training images that were seen, repeated ones too.
        seconds (float): Time of the training iterations until then, each
            taken as long as the median one: pauses do not count.
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
        failure (str): Why the run ended early, '' if it did not.
    """

    name: str
    config: Path
    seed: int
    rate: float
    folder: Path
    points: list[Point] = field(default_factory=list)
    failure: str = ''

    @property
    def last(self) -> dict[str, float]:
        """Scores of the last validation."""
        return self.points[-1].scores


def write_trial_config(cfg: Config, path: Path) -> None:
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


def run_trials(
    trials: Sequence[Trial],
    options: Sequence[str] = (),
    jobs: int = 1,
    after: Callable[[], object] = lambda: None,
) -> None:
    """Train and evaluate those that are not done, and read the scores.

    Args:
        trials (Sequence[Trial]): The runs; their points are set.
        options (Sequence[str]): More options of ``train``.
        jobs (int): Number of runs at a time. Each has a GPU of its own where
            there are several, or its part of the cores.
        after (Callable): Called after each run.

    A run that fails, as one whose losses are not finite, does not stop the
    others.
    """
    if jobs == 1:
        for trial in trials:
            run_trial(trial, options)
            after()
        return
    places: Queue[int] = Queue()
    for place in range(jobs):
        places.put(place)

    ending = Event()

    def train_somewhere(trial: Trial) -> None:
        place = places.get()
        try:
            run_trial(
                *(trial, options, _environ_of(place, jobs)),
                stopped=ending.is_set,
            )
        finally:
            places.put(place)

    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(train_somewhere, trial) for trial in trials]
        try:
            for future in as_completed(futures):
                future.result()
                after()
        except BaseException:
            ending.set()
            pool.shutdown(cancel_futures=True)  # those that began end first
            raise


def _environ_of(place: int, jobs: int) -> dict[str, str]:
    gpus = gpu_count()
    threads = max(1, count_cores() // jobs)
    environ = dict(OMP_NUM_THREADS=str(threads))
    if gpus > 1:
        given = os.environ.get('CUDA_VISIBLE_DEVICES')
        names = given.split(',') if given else list(map(str, range(gpus)))
        environ['CUDA_VISIBLE_DEVICES'] = names[place % gpus]
    return environ


def run_trial(
    trial: Trial,
    options: Sequence[str] = (),
    environ: dict[str, str] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> None:
    """Train and evaluate, unless it is done, and read the scores.

    Args:
        trial (Trial): The run; its points are set.
        options (Sequence[str]): More options of ``train``.
        environ (dict[str, str], optional): Variables of its environment, of
            one of several runs at a time.
        stopped (Callable, optional): Returns whether to end the run early.

    A failure is recorded, and printed with the end of the output.

    Raises:
        CompareError: Another process trains in the folder.
    """
    trial.points = read_points(trial.folder)
    if trial.points:
        return
    print(
        f'{trial.name}, seed {trial.seed}, learning rate {trial.rate:g}',
        flush=True,
    )
    cfg = Config.fromfile(trial.config)
    loop = cfg.train_cfg
    try:
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
            environ,
            show=environ is None,
            stopped=stopped,
        )
    except UserError as error:
        used = [x for x in str(error).splitlines() if 'is in use: ' in x]
        if used:
            raise CompareError(used[0].removeprefix('Error: ')) from None
        trial.failure = str(error)
        print(f'{trial.name}, seed {trial.seed}: {error}', flush=True)
        return
    trial.points = read_points(trial.folder)
    if not trial.points:
        trial.failure = (
            f"'{trial.folder}' has no validation at the end of its training "
            f'with one of {", ".join(SCORES)}.'
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
    times = [line['time'] for line in run.training if 'time' in line]
    median = statistics.median(times) if times else 0.0
    points = []
    # A metric gives nothing where nothing was found.
    names = {key for record in run.scores for key in record if key in SCORES}
    if not names:
        return []
    for record in run.scores:
        end = run.iteration_of(record['step'])
        points.append(
            Point(
                images=end * loader.batch_size,
                seconds=end * median,
                scores={k: record.get(k, 0.0) for k in SCORES if k in names},
            )
        )
    return points


def describe_machine(folder: Path) -> str:
    """Describe what a run recorded of its machine and packages, or ''."""
    info = read_run_info(folder)
    versions = info.get('versions') or {}
    threads = info.get('threads')
    parts = [info.get('device'), f'{threads} threads' if threads else None]
    packages = ', '.join(f'{name} {text}' for name, text in versions.items())
    return '; '.join(
        part for part in (', '.join(filter(None, parts)), packages) if part
    )
