"""Read the scores of the runs in a work dir from mmengine's logs.

Each start of a run, resumed or not, has its own folder, named by the time::

    work_dir/TIME/vis_data/scalars.json   a line for each validation, and more
    work_dir/TIME/vis_data/config.py      the config that ran
    work_dir/TIME/TIME.json               the result of a test
    work_dir/TIME/run.json                hashes of annotations, and more
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mmsmt.analysis.paper import TTA
from mmsmt.runs.records import RUN


class Score(NamedTuple):
    """Scores of one validation or one test.

    Args:
        step (int): Epoch, or iteration if the run counts iterations.
        values (dict[str, float]): Scores in per cent, by logged name.
    """

    step: int
    values: dict[str, float]


COCO = {
    'train': '610fce4944abdeb15354cc7653338055'
    '29359d12d88f2f711393ca586901d01d',
    'val': 'e8c7f7908f1d7278341fae127d0da654f102f11bd7b21d8aeefa635b8c810b6f',
}
"""SHA-256 of COCO's ``instances_{train,val}2017.json``."""


class Test(NamedTuple):
    """Result of the last test of a kind.

    Args:
        values (dict[str, float]): Scores in per cent, by logged name; with
            test-time augmentation names start with ``tta/``.
        checkpoint (str | None): Name of the file that was tested.
        coco (bool | None): True on COCO's validation set, None if the test
            did not record its annotations.
    """

    values: dict[str, float]
    checkpoint: str | None = None
    coco: bool | None = None


class Run(NamedTuple):
    """A run with all its resumptions.

    Args:
        unit (str): ``epoch`` or ``iteration``.
        total (int): Number of epochs or iterations in the config.
        scores (tuple[Score]): Validations, in order.
        test (Test | None): The last test.
        tta (Test | None): The last one with test-time augmentation.
        data_root (str | None): Folder of the data.
        arch (str | None): Arch of the backbone.
        coco (bool | None): True if all its starts trained and validated on
            COCO 2017, None if one did not record its annotations.
        deviations (tuple[str]): What its last training had otherwise than the
            recipe: length, images of a step, learning rate.
    """

    unit: str
    total: int
    scores: tuple[Score, ...]
    test: Test | None
    tta: Test | None
    data_root: str | None
    arch: str | None
    coco: bool | None = None
    deviations: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """True if the last epoch or iteration was validated."""
        return bool(self.scores) and self.scores[-1].step >= self.total

    def best(self, metric: str) -> Score | None:
        """Return the validation with the highest metric, or None."""
        scores = [score for score in self.scores if metric in score.values]
        return max(scores, key=lambda s: s.values[metric], default=None)


def read_run(work_dir: Path, cfg: Config) -> Run | None:
    """Read the logs of a config's run.

    Lines that a killed run left incomplete are skipped.

    Args:
        work_dir (Path): Work dir of the run, with a folder for each start.
        cfg (Config): The config as shipped, which defines a finished run.

    Returns:
        Run: The run, or None if nothing was trained or tested.
    """
    epochs = cfg.train_cfg.get('max_epochs')
    scores: dict[int, dict[str, float]] = {}
    test = tta = ran = processes = None
    on_coco: list[bool | None] = []
    for folder in sorted(p for p in work_dir.glob('*') if p.is_dir()):
        log = folder / 'vis_data' / 'scalars.json'
        if log.is_file():
            ran = read_start_config(folder) or ran or Config()
            # A repeated validation of a resumed run replaces the first.
            records = list(iter_records(log))
            forget_later(records, {}, scores, 'epoch' if epochs else 'iter')
            if any('loss' in record for record in records):
                processes = read_info(folder).get('processes')
                if ran.get('resume') is False:
                    on_coco = []  # another run begins
            on_coco.append(is_coco(folder, ('train', 'val')))
            for line in records:
                values = _scores(line)
                # Step 0 is a validation without training.
                if values and line.get('step'):
                    scores[line['step']] = values
        for line in iter_records(folder / f'{folder.name}.json'):
            found = _read_test(folder, _scores(line))
            if any(name.startswith(TTA) for name in found.values):
                tta = found
            else:
                test = found
    if ran is None and not test and not tta:
        return None
    ran = ran or Config()
    dataset = (ran.get('train_dataloader') or {}).get('dataset') or {}
    return Run(
        unit='epoch' if epochs else 'iteration',
        total=epochs or cfg.train_cfg.max_iters,
        scores=tuple(Score(step, scores[step]) for step in sorted(scores)),
        test=test,
        tta=tta,
        data_root=dataset.get('data_root'),
        arch=ran.get('model', {}).get('backbone', {}).get('arch'),
        coco=all_true(on_coco),
        deviations=find_deviations(ran, cfg, processes),
    )


def find_deviations(
    ran: Config, recipe: Config, processes: int | None
) -> tuple[str, ...]:
    """Return in what a training differed from its recipe.

    Args:
        ran (Config): What it was started with.
        recipe (Config): The config as shipped.
        processes (int, optional): Number of its processes, if recorded.
    """
    if not ran.get('train_cfg'):
        return ()
    found = []
    for key in ('epochs', 'iters'):
        one, other = (x.train_cfg.get(f'max_{key}') for x in (ran, recipe))
        if one and one != other:
            of = f', not {other}' if other else ''
            found.append(f'{one} {key}{of}')
    rates = [
        ((x.get('optim_wrapper') or {}).get('optimizer') or {}).get('lr')
        for x in (ran, recipe)
    ]
    if None not in rates and rates[0] != rates[1]:
        found.append(f'a learning rate of {rates[0]}, not {rates[1]}')
    whole = (recipe.get('auto_scale_lr') or {}).get('base_batch_size')
    batch = (ran.get('train_dataloader') or {}).get('batch_size')
    if whole and batch and processes:
        count = (ran.get('optim_wrapper') or {}).get('accumulative_counts', 1)
        step = batch * processes * count
        if step != whole:
            found.append(f'{step} images a step, not {whole}')
    return tuple(found)


def read_info(folder: Path) -> dict[str, Any]:
    """Read what a start recorded of itself; {} if it recorded nothing.

    Args:
        folder (Path): Folder of the start, named by its time.
    """
    return read_json(folder / RUN) or {}


def read_json(path: Path) -> dict[str, Any] | None:
    """Read an object of JSON; None if it is missing or cut off."""
    try:
        content = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _read_test(folder: Path, values: dict[str, float]) -> Test:
    cfg = read_start_config(folder) or Config()
    if 'module' in cfg.get('model', {}):
        values = {TTA + name: value for name, value in values.items()}
    checkpoint = cfg.get('load_from')
    return Test(
        values,
        Path(checkpoint).name if checkpoint else None,
        is_coco(folder, ('test',)),
    )


def is_coco(folder: Path, splits: Iterable[str]) -> bool | None:
    """Check whether a start read COCO's annotations, by their hashes.

    Args:
        folder (Path): Folder of the start, named by its time.
        splits (Iterable[str]): Of ``train``, ``val`` and ``test``.

    Returns:
        bool | None: None if the start recorded none.
    """
    try:
        recorded = read_info(folder)['annotations']
        hashes = {split: recorded[split]['sha256'] for split in splits}
    except (KeyError, TypeError):
        return None
    return all(
        value == COCO['train' if split == 'train' else 'val']
        for split, value in hashes.items()
    )


def all_true(values: Sequence[bool | None]) -> bool | None:
    """Return False if one is, else None if one is or there are none."""
    if False in values:
        return False
    return None if None in values or not values else True


def read_start_config(folder: Path) -> Config | None:
    """Read the config of a start, None if it is missing or truncated.

    Args:
        folder (Path): Folder of the start, named by its time.
    """
    path = folder / 'vis_data' / 'config.py'
    try:
        return Config.fromfile(path, import_custom_modules=False)
    except (OSError, SyntaxError):
        return None


def iter_records(path: Path) -> Iterator[dict]:
    """Yield the whole lines of a log; a killed run may leave half of one.

    Args:
        path (Path): The log, which need not exist.
    """
    if not path.is_file():
        return
    for line in path.read_text(errors='replace').splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def forget_later(
    records: Sequence[dict], training: dict, scores: dict, unit: str
) -> None:
    """Forget what an earlier start logged after a later one's begin.

    A run that starts anew in a folder is another one.

    Args:
        records (Sequence[dict]): What the later start logged.
        training (dict): Earlier records by iteration, changed in place.
        scores (dict): Earlier validations by step, changed in place.
        unit (str): ``epoch`` or ``iter``, of the steps of validations.
    """
    first = next((x for x in records if 'loss' in x and 'iter' in x), None)
    if first is None:
        return
    for step in [x for x in training if x >= first['iter']]:
        del training[step]
    begin = first.get(unit)
    for step in [x for x in scores if begin is not None and x >= begin]:
        del scores[step]


def _scores(record: dict) -> dict[str, float]:
    """Return the metrics in a line of a log, in per cent.

    COCO's metrics are logged as fractions, and as -1 if there are no objects
    of a size.
    """
    return {
        name: round(100 * value, 4) if name.startswith('coco/') else value
        for name, value in record.items()
        if isinstance(value, (int, float))
        and math.isfinite(value)
        and value >= 0
        and (name.startswith(('coco/', 'accuracy/')) or name in _SEGMENTATION)
    }


_SEGMENTATION = ('aAcc', 'mIoU', 'mAcc')
