"""Tables and curves of a comparison."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

from mmsmt.environment import describe_device
from mmsmt.runs.files import finish, partial_path, write_text

from .trials import SCORES, Trial, describe_machine

NAMES = ('box AP', 'box AP50', 'mask AP', 'mIoU', 'top-1')
TITLES = dict(zip(SCORES, NAMES, strict=True))


def group_by_backbone(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Return the runs by backbone."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.name, []).append(trial)
    return groups


def format_spread(values: Sequence[float], digits: int) -> str:
    """Write mean and standard deviation (of a sample), if there are more."""
    text = f'{statistics.mean(values):.{digits}f}'
    if len(values) > 1:
        text += f' ± {statistics.stdev(values):.{digits}f}'
    return text


def format_median(values: Sequence[float], digits: int) -> str:
    """Write the median, and lowest and highest, if there are more."""
    text = f'{statistics.median(values):.{digits}f}'
    if len(values) > 1:
        text += f' ({min(values):.{digits}f}–{max(values):.{digits}f})'
    return text


def format_comparison(
    trials: Sequence[Trial], parameters: dict[str, float]
) -> str:
    """Write a table in Markdown, best backbone first.

    Args:
        trials (Sequence[Trial]): Finished runs.
        parameters (dict[str, float]): Parameters of the models, in millions.
    """
    names = [name for name in SCORES if name in trials[0].last]
    header = ['backbone', 'parameters', 'learning rate', 'seeds']
    header += [TITLES[name] for name in names]
    header += ['ms per image', 'minutes']
    rows = []
    groups = group_by_backbone(trials)
    for name in sorted(
        groups,
        key=lambda n: -statistics.mean(t.last[names[0]] for t in groups[n]),
    ):
        runs = groups[name]
        last = [run.points[-1] for run in runs]
        speeds = [1000 * point.seconds / point.images for point in last]
        rows.append(
            [
                name,
                f'{parameters[name]:.2f} M',
                f'{runs[0].rate:g}',
                str(len(runs)),
                *(
                    # mIoU and top-1 are logged in percent, AP as a fraction
                    format_spread(
                        [run.last[key] for run in runs],
                        3 if key.startswith('coco') else 1,
                    )
                    for key in names
                ),
                format_median(speeds, 0),
                format_median([point.seconds / 60 for point in last], 1),
            ]
        )
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in lines)


def write_results(
    folder: Path,
    trials: Sequence[Trial],
    first: Sequence[Trial],
    failed: Sequence[Trial],
    parameters: dict[str, float],
    settings: dict,
) -> str:
    """Write ``results.json``, ``results.md`` and ``curves.png``.

    Args:
        folder (Path): Folder of the comparison.
        trials (Sequence[Trial]): Finished runs, one rate for each backbone.
        first (Sequence[Trial]): Finished runs of the first seed, with all
            learning rates.
        failed (Sequence[Trial]): Runs that failed.
        parameters (dict[str, float]): Parameters of the models, in millions.
        settings (dict): What the comparison was asked for.

    Returns:
        str: The text of ``results.md``.
    """
    others = [run for run in first if run not in trials and run.points]
    described = {
        run.folder: describe_machine(run.folder) for run in (*trials, *others)
    }
    machines: dict[str, list[str]] = {}
    for run in trials:
        name = f'{run.name} (seed {run.seed})'
        machines.setdefault(described[run.folder], []).append(name)
    write_text(
        folder / 'results.json',
        json.dumps(
            dict(
                settings=settings,
                parameters=parameters,
                runs=[
                    dict(asdict(run), machine=described[run.folder])
                    for run in (*trials, *others)
                ],
            ),
            default=str,
            indent=1,
        ),
    )
    machine = next(iter(machines)) or describe_device()
    lines = [format_comparison(trials, parameters), '']
    lines.append(
        'Last validation; mean ± standard deviation over seeds '
        f'{", ".join(map(str, settings["seeds"]))}. Time of training alone: '
        'its iterations at the median of the logged times; median '
        '(lowest–highest) over seeds. '
        + (
            f'{settings["jobs"]} at a time; {machine}.'
            if len(machines) == 1
            else 'The runs had several machines or versions, whose times '
            'cannot be compared:'
        )
    )
    if len(machines) > 1:
        for machine, names in machines.items():
            lines.append(f'- {machine or "unknown"}: {", ".join(names)}')
    score = next(name for name in SCORES if name in trials[0].last)
    for name in parameters:
        rates = {
            trial.rate: trial.last[score]
            for trial in first
            if trial.name == name and trial.points
        }
        if len(rates) > 1:
            pairs = sorted(rates.items())
            found = ', '.join(f'{r:g}: {v:.3f}' for r, v in pairs)
            lines.append(f'- {name}, {TITLES[score]} by rate: {found}')
    for run in failed:
        reason = run.failure.strip().splitlines()[-1]
        lines.append(
            f'- {run.name}, seed {run.seed}, {run.rate:g}: failed. {reason}'
        )
    text = '\n'.join(lines) + '\n'
    write_text(folder / 'results.md', text)
    draw_scores(trials, score, folder / 'curves.png')
    return text


def draw_scores(trials: Sequence[Trial], score: str, path: Path) -> None:
    """Draw a score over images and over time.

    A line has the mean of the score, over the median time; lowest to highest
    scores are shaded.

    Args:
        trials (Sequence[Trial]): Finished runs.
        score (str): Logged name of the score.
        path (Path): The picture, PNG or SVG.
    """
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for number, (name, runs) in enumerate(group_by_backbone(trials).items()):
        color = plt.get_cmap('tab10')(number % 10)
        columns = list(zip(*(run.points for run in runs)))
        means = [
            statistics.mean(p.scores[score] for p in column)
            for column in columns
        ]
        low = [min(p.scores[score] for p in column) for column in columns]
        high = [max(p.scores[score] for p in column) for column in columns]
        images = [column[0].images for column in columns]
        minutes = [
            statistics.median(p.seconds for p in column) / 60
            for column in columns
        ]
        for axes, steps in zip(panels, (images, minutes)):
            axes.plot(steps, means, 'o-', color=color, label=name)
            axes.fill_between(steps, low, high, color=color, alpha=0.15)
    panels[0].set(xlabel='training images seen', ylabel=TITLES[score])
    panels[1].set(xlabel='minutes of training')
    for axes in panels:
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(partial_path(path), dpi=120, format=path.suffix[1:])
    finish(path)
    plt.close(figure)
