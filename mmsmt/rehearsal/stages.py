"""The stages of a rehearsal."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict

from mmsmt.errors import UserError
from mmsmt.launch.checking import check_data

from .cures import find_cure
from .estimate import estimate_full_run
from .samples import choose_samples, has_data, use_samples
from .schedule import (
    LENGTH,
    STEPS,
    lower_score_thresholds,
    scale_images,
    shorten_schedule,
)
from .sources import find_source, use_digits, use_local_weights


class Stage(NamedTuple):
    """A line of the rehearsal's table.

    Args:
        name (str): Name of the stage, such as ``resume``.
        seconds (float): Duration of the stage.
        memory (float | None): Peak memory of the process, or of the GPU if it
            runs on one, in GiB.
        result (str): Result in one line, or an error.
        ok (bool): False if the stage failed.
    """

    name: str
    seconds: float
    memory: float | None
    result: str
    ok: bool = True


class StageError(UserError):
    """Error for a failed stage."""


class Rehearsal:
    """Dry run of a config, stage by stage.

    Args:
        cfg (Config): A config of :func:`mmsmt.launch.load_config`, changed in
            place.
        work_dir (Path): A new folder for all files.
        scale (float): Factor of the image size.
        length (int): Number of epochs.
        batch (int, optional): Maximum number of images per iteration.
        amp (bool): Use automatic mixed precision.
    """

    def __init__(
        self,
        cfg: Config,
        work_dir: Path,
        scale: float,
        length: int = LENGTH,
        batch: int | None = None,
        amp: bool = False,
    ) -> None:
        self.cfg = cfg
        self.work_dir = work_dir
        self.scale = scale
        self.length = length
        self.amp = amp
        self.real = Config(cfg.to_dict())
        self.own_data = has_data(cfg)
        self.images: int | None = None  # to train on, of the own data
        if batch is not None:
            for part in ('train', 'val', 'test'):
                loader = cfg.get(f'{part}_dataloader')
                if loader:
                    loader.batch_size = min(loader.batch_size, batch)
        self.stages: list[Stage] = []
        self.killed = False
        self.config = work_dir / 'rehearsal.py'
        self.probe = work_dir / 'iterations.jsonl'
        self.memory: float | None = None

    def differences(self) -> str:
        """Describe how the rehearsal differs from the real run."""
        loop = self.real.train_cfg
        length = (
            f'{min(self.length, loop.max_epochs)} of {loop.max_epochs} epochs'
            if loop.get('max_epochs')
            else f'{self.length * STEPS} of {loop.max_iters} iterations'
        )
        batch = self.cfg.train_dataloader.batch_size
        real = self.real.train_dataloader.batch_size
        data = 'a sample of the data' if self.own_data else 'digits for data'
        return (
            f'Unlike the real run: {length}, one process, {data}, '
            f'images x {self.scale:g}, score thresholds 0'
            + (f', batch {batch} instead of {real}' if batch != real else '')
            + '.'
        )

    def run(self) -> bool:
        """Run the stages until one fails; return True if none did."""
        for name, stage in (
            ('data', self.make_data),
            ('weights', self.make_weights),
            ('train, kill', self.train),
            ('resume', self.resume),
            ('test', self.test),
            ('test with TTA', self.test_with_tta),
        ):
            start = time.perf_counter()
            self.memory = None
            print(f'... {name}', flush=True)
            try:
                result, ok = stage(), True
            except UserError as error:
                result, ok = str(error), False
            except Exception:  # an unknown kind of config
                lines = traceback.format_exc().strip().splitlines()
                result, ok = '\n    '.join(['', *lines[-6:]]), False
            seconds = time.perf_counter() - start
            self.stages.append(Stage(name, seconds, self.memory, result, ok))
            if not ok:
                break
        return all(stage.ok for stage in self.stages)

    # Stages

    def make_data(self) -> str:
        """Check the data and take a sample of it, or write digits."""
        cfg = self.cfg
        if self.own_data:
            check_data(self.real)
            result = self._take_sample()
        else:
            steps = shorten_schedule(cfg, self.length)
            use_digits(cfg, self.work_dir / 'data', steps, self.scale)
            result = f'{find_source(cfg).layout} of digits'
        scale_images(cfg, self.scale)
        lower_score_thresholds(cfg)
        hook = ConfigDict(
            type='mmsmt.rehearsal.probe.ProbeHook', path=str(self.probe)
        )
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
        cfg.resume = False
        return result

    def _take_sample(self) -> str:
        cfg = self.cfg
        accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
        samples, self.images = choose_samples(cfg, STEPS * accumulate)
        count = sum(map(len, samples['train']))
        steps = math.ceil(count / cfg.train_dataloader.batch_size)
        shorten_schedule(cfg, self.length, self.images, steps)
        return f'a sample of the data: {use_samples(cfg, samples)} images'

    def make_weights(self) -> str:
        """Fetch the initial weights, and write the config."""
        lines = use_local_weights(self.cfg, self.work_dir / 'weights')
        self.work_dir.mkdir(parents=True, exist_ok=True)
        self.cfg.dump(self.config)
        return '; '.join(lines) or 'none: from scratch'

    def train(self) -> str:
        """Train until the run is killed."""
        status, log = self._run_command('train', 'train', *self._amp())
        done = self._iterations()
        self.killed = status == -signal.SIGKILL and bool(done)
        if self.killed:  # by the hook, not by the system?
            last = self.work_dir / 'run' / 'last_checkpoint'
            self.killed = last.is_file() and (
                done[-1]['iteration'] >= done[-1]['of'] // 2
            )
        if status and not self.killed:
            raise StageError(self._report(log, status))
        self._gpu_memory()
        if not self.killed:
            return f'{len(done)} iterations; no checkpoint before the last'
        return f'killed in iteration {len(done)} of {done[-1]["of"]}'

    def resume(self) -> str:
        """Resume the killed run, and check iterations, rates and metrics."""
        before = self._iterations()
        if self.killed:
            status, log = self._run_command(
                'resume', 'train', '--resume', *self._amp()
            )
            if status:
                raise StageError(self._report(log, status))
        self._gpu_memory()
        after = self._iterations()[len(before) :]
        if self.killed and (not after or after[0]['iteration'] == 0):
            raise StageError('the run began anew: the kill left no checkpoint')
        last = (after or before)[-1]
        if last['iteration'] + 1 != last['of']:
            raise StageError(f'it ended after {last["iteration"] + 1}')
        rates: dict[int, float] = {}
        for note in before + after:
            i = note['iteration']
            if not math.isclose(rates.setdefault(i, note['lr']), note['lr']):
                raise StageError(
                    f'the learning rate of iteration {i + 1} was {rates[i]:g} '
                    f'and is {note["lr"]:g} after resuming'
                )
        idle = [n['idle'] for n in self._notes() if 'idle' in n][-1]
        if idle and not self.cfg.get('find_unused_parameters'):
            raise StageError(
                f'{len(idle)} parameters never had a gradient, which stops '
                f'training on several GPUs: {", ".join(idle[:3])} ...\n'
                '    Cure: find_unused_parameters=True, or freeze them'
            )
        text = (
            f'from iteration {after[0]["iteration"] + 1}; '
            if after
            else 'nothing to resume; '
        )
        text += (
            f'lr {rates[0]:.3g}, at most {max(rates.values()):.3g}, at last '
            f'{rates[max(rates)]:.3g}'
        )
        if not self.cfg.get('val_dataloader'):
            return f'{text}; the config validates nothing'
        found = [n['metrics'] for n in self._notes() if 'metrics' in n]
        if not found:
            raise StageError('it was never validated')
        if not found[-1]:
            raise StageError('the validation has no metric')
        name, value = next(iter(found[-1].items()))
        return f'{text}; {len(found)} validations, {name} {value:.3g}'

    def test(self) -> str:
        """Test the last checkpoint, with pictures."""
        if not self.cfg.get('test_dataloader'):
            return 'the config has no test data'
        pictures = self.work_dir / 'pictures'
        status, log = self._run_command(
            'test', 'test', self._last(), '--show-dir', pictures
        )
        if status:
            raise StageError(self._report(log, status))
        found = [
            path
            for path in pictures.rglob('*')
            if path.suffix in ('.png', '.jpg')
        ]
        if not found:
            raise StageError(f'no picture was written under {pictures}')
        return f'{len(found)} pictures in {found[0].parent}'

    def test_with_tta(self) -> str:
        """Test with augmentation, if the config has one."""
        if not (self.cfg.get('tta_model') and self.cfg.get('test_dataloader')):
            return 'the config has none'
        status, log = self._run_command('tta', 'test', self._last(), '--tta')
        if status:
            raise StageError(self._report(log, status))
        views = [len(step) for step in self.cfg.tta_pipeline[1].transforms[:2]]
        return f'{math.prod(views)} views of each image'

    # Helpers

    def _amp(self) -> list[str]:
        return ['--amp'] if self.amp else []

    def _run_command(
        self, name: str, command: str, *args: Any
    ) -> tuple[int, str]:
        """Run a command in a new process; return its status and output."""
        folder = 'run' if command == 'train' else name
        line = [sys.executable, '-m', 'mmsmt', command, self.config, *args]
        line += ['--work-dir', self.work_dir / folder, '--no-check']
        path = self.work_dir / f'{name}.log'
        with open(path, 'w') as log:
            process = subprocess.Popen(
                [str(part) for part in line],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                _, status, usage = os.wait4(process.pid, 0)
            finally:  # the loaders' workers outlive a killed run
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        process.returncode = os.waitstatus_to_exitcode(status)
        kib = 2**20 if sys.platform != 'darwin' else 2**30
        self.memory = usage.ru_maxrss / kib
        return process.returncode, path.read_text(errors='replace')

    def _report(self, log: str, status: int) -> str:
        """Return the end of a log, with the fix if the error is known."""
        if status == -signal.SIGKILL:
            log += '\nkilled: out of memory?'
        lines = [line for line in log.splitlines() if line.strip()]
        text = f'exit status {status}\n    ' + '\n    '.join(lines[-12:])
        known = find_cure('\n'.join(lines[-30:]))
        return text + (f'\n    Cure: {known}' if known else '')

    def _notes(self) -> list[dict[str, Any]]:
        if not self.probe.is_file():
            return []
        return [json.loads(line) for line in self.probe.open()]

    def _iterations(self) -> list[dict[str, Any]]:
        return [note for note in self._notes() if 'iteration' in note]

    def _gpu_memory(self) -> None:
        peak = max(note['gpu'] for note in self._iterations())
        if peak:
            self.memory = peak / 2**30

    def _last(self) -> str:
        path = self.work_dir / 'run' / 'last_checkpoint'
        return path.read_text().strip()

    def estimate(self) -> str | None:
        """Estimate the full schedule's time and memory.

        Returns:
            str: The estimate; None without a GPU, or if the image size or the
            batch differed from the config's.
        """
        notes = self._iterations()
        batch = self.real.train_dataloader.batch_size
        if (
            not torch.cuda.is_available()
            or self.scale != 1
            or self.cfg.train_dataloader.batch_size != batch
            or not notes
        ):
            return None
        return estimate_full_run(
            [note['seconds'] for note in notes],
            max(note['gpu'] for note in notes),
            torch.cuda.get_device_properties(0).total_memory,
            self.real,
            torch.cuda.get_device_name(0),
            self.images,
        )

    def clean(self) -> None:
        """Remove the checkpoints."""
        for folder in ('run', 'weights'):
            for path in (self.work_dir / folder).glob('*.pth'):
                path.unlink()


def format_table(stages: Iterable[Stage]) -> Iterator[str]:
    """Yield the lines of the rehearsal's table."""
    yield f'{"stage":<14} {"s":>6} {"GiB":>6}  result'
    for stage in stages:
        memory = '' if stage.memory is None else f'{stage.memory:.2f}'
        state = 'OK  ' if stage.ok else 'FAILED: '
        yield (
            f'{stage.name:<14} {stage.seconds:>6.1f} {memory:>6}  '
            f'{state}{stage.result}'
        )
