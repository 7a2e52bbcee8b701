"""Rehearsal: a config's whole life in little, before it costs days.

The config keeps its model, losses, optimizer, pipelines, hooks and metric.
What differs: the schedule is cut to a few epochs with its steps at the
corresponding points, images are scaled, and the data are scenes of digits in
the config's own layout. Then the real tools train, are killed, resume, test
and test with augmentation.
"""

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
from numbers import Real
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsmt import weights
from mmsmt.datasets import digits
from mmsmt.launch import (
    LaunchError,
    check_data,
    datasets,
    kind,
    set_data_root,
)
from mmsmt.models import SMT

LENGTH = 6
"""Epochs of a rehearsal."""
STEPS = 2
"""Optimizer steps in each of them."""
VAL_IMAGES = 4


class Source(NamedTuple):
    """What stands for a data set.

    Args:
        layout (str): Of :mod:`mmsmt.datasets.digits`.
        train_images (int): Of the real one, as the hosts load it.
        size (tuple[int, int]): Height and width of a usual image, in pixels.
    """

    layout: str
    train_images: int
    size: tuple[int, int]


SOURCES = {
    'CocoDataset': Source('coco', 117_266, (480, 640)),
    'ADE20KDataset': Source('ade20k', 20_210, (512, 683)),
    'ImageNet': Source('imagenet', 1_281_167, (375, 500)),
    'ImageNet21k': Source('imagenet', 14_197_122, (375, 500)),
}


def source_of(cfg: Config) -> Source:
    """What stands for the config's training data.

    Raises:
        LaunchError: Its data set has a layout that the digits do not.
    """
    for dataset in datasets(cfg, 'train_dataloader'):
        name = kind(dataset)
        if name in SOURCES:
            return SOURCES[name]
        raise LaunchError(
            f"A rehearsal has no data in the layout of '{name}'; it has "
            f'those of {", ".join(SOURCES)}.'
        )
    raise LaunchError(f"'{cfg.filename}' has no training data.")


# A shorter, smaller config ---------------------------------------------------


def scale_images(cfg: Config, scale: float) -> None:
    """Multiply every image size in pipelines and model.

    Args:
        cfg (Config): Changed in place.
        scale (float): 1.0 leaves it as it is.
    """

    def scaled(value):
        if isinstance(value, (list, tuple)):
            return type(value)(scaled(item) for item in value)
        # Fractions, such as torchvision's scale, and None stay.
        is_size = isinstance(value, Real) and value >= 2
        return max(32, round(value * scale)) if is_size else value

    def walk(node):
        if isinstance(node, dict):
            sizes = {'scale', 'scales', 'crop_size', 'img_scale'}
            if kind(node) == 'Pad' or str(node.get('type')).startswith(
                'torchvision/'
            ):
                sizes.add('size')
            return ConfigDict(
                (key, scaled(value) if key in sizes else walk(value))
                for key, value in node.items()
            )
        if isinstance(node, (list, tuple)):
            return type(node)(walk(item) for item in node)
        return node

    if scale == 1:
        return
    for part in ('train', 'val', 'test'):
        if cfg.get(f'{part}_dataloader'):
            cfg[f'{part}_dataloader'] = walk(cfg[f'{part}_dataloader'])
    if cfg.get('tta_pipeline'):
        cfg.tta_pipeline = walk(cfg.tta_pipeline)
    for owner in (cfg, cfg.model):
        preprocessor = owner.get('data_preprocessor') or {}
        if preprocessor.get('size'):
            preprocessor.size = scaled(preprocessor['size'])
    test_cfg = cfg.model.get('test_cfg') or {}
    for key in ('crop_size', 'stride'):  # of mmseg's sliding window
        if test_cfg.get(key):
            test_cfg[key] = scaled(test_cfg[key])


def shorten(cfg: Config, length: int = LENGTH) -> int:
    """Cut the schedule, its steps at the corresponding points.

    Args:
        cfg (Config): Changed in place.
        length (int): Epochs, at most the config's.

    Returns:
        int: Iterations in an epoch; where the config counts iterations, the
        run is ``length`` times as many.
    """
    accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
    steps = STEPS * accumulate
    loop = cfg.train_cfg
    by_epoch = bool(loop.get('max_epochs'))
    if by_epoch:
        total = loop.max_epochs
        length = loop.max_epochs = min(length, total)
        images = total * source_of(cfg).train_images
        iterations = images / recipe_batch(cfg) * accumulate
        short = length * steps
    else:
        total = iterations = loop.max_iters
        length = loop.max_iters = short = length * steps

    def at(point: float, ratio: float, low: int, high: int) -> int:
        """A point after the start stays after it, one at the end too."""
        return max(low, min(high, round(point * ratio)))

    ratio = length / total
    iter_ratio = short / iterations
    loop.val_interval = at(loop.get('val_interval', 1), ratio, 1, length)
    if loop.get('val_begin'):
        loop.val_begin = at(loop.val_begin, ratio, 1, length)
    if loop.get('dynamic_intervals'):
        loop.dynamic_intervals = [
            (at(begin, ratio, 1, length), at(interval, ratio, 1, length))
            for begin, interval in loop.dynamic_intervals
        ]
    hooks = cfg.default_hooks
    checkpoint = hooks.get('checkpoint') or {}
    interval = checkpoint.get('interval', 1)
    if checkpoint:
        checkpoint.max_keep_ckpts = 2
        if interval > 0 and by_epoch and not checkpoint.get('by_epoch', True):
            checkpoint.interval = at(interval, iter_ratio, 1, short)
        elif interval > 0:
            checkpoint.interval = at(interval, ratio, 1, length)
    for name in ('logger', 'visualization'):
        if hooks.get(name):
            hooks[name].interval = 1
    for hook in [*hooks.values(), *(cfg.get('custom_hooks') or [])]:
        for key, value in (hook or {}).items():
            if key in ('switch_epoch', 'begin_epoch', 'num_last_epochs'):
                hook[key] = at(value, ratio, 1, length)
            elif key in ('switch_iter', 'begin_iter'):
                hook[key] = at(value, iter_ratio, 1, short)

    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        schedulers = [schedulers]
    for scheduler in schedulers:
        factor, high = ratio, length
        if by_epoch and not scheduler.get('by_epoch', True):
            factor, high = iter_ratio, short
        # A warm-up needs two steps to get anywhere.
        low = 1 if scheduler.get('convert_to_iter_based') else 2
        for key in ('begin', 'end', 'T_max', 'total_steps', 'step_size'):
            if scheduler.get(key):
                scheduler[key] = at(scheduler[key], factor, low, high)
        if scheduler.get('milestones'):
            points = [at(m, factor, 1, high - 1) for m in scheduler.milestones]
            for i in range(len(points) - 1, 0, -1):  # kept apart
                points[i - 1] = min(points[i - 1], points[i] - 1)
            scheduler.milestones = points
    return steps


def recipe_batch(cfg: Config) -> int:
    """Images in an optimizer step of the recipe, over all GPUs."""
    accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
    batch = cfg.train_dataloader.batch_size * accumulate
    return (cfg.get('auto_scale_lr') or {}).get('base_batch_size') or batch


def predict_something(cfg: Config) -> None:
    """Let an untrained detector predict, so that its metric is rehearsed."""

    def walk(node):
        if isinstance(node, dict):
            if 'score_thr' in node:
                node['score_thr'] = 0.0
            node = list(node.values())
        if isinstance(node, (list, tuple)):
            for value in node:
                walk(value)

    walk(cfg.model.get('test_cfg'))


def use_digits(cfg: Config, root: Path, steps: int, scale: float) -> None:
    """Write scenes of digits and put them in the place of the data.

    Args:
        cfg (Config): Changed in place.
        root (Path): Folder for the scenes; what is there is kept.
        steps (int): Training iterations in an epoch.
        scale (float): Of the images.
    """
    source = source_of(cfg)
    size = tuple(max(32, round(side * scale)) for side in source.size)
    train = steps * cfg.train_dataloader.batch_size
    val = cfg.get('val_dataloader') or {}
    num_val = max(VAL_IMAGES, val.get('batch_size', 1))
    root = root / f'{source.layout}_{train}_{num_val}_{size[0]}x{size[1]}'
    digits.write(source.layout, root, train, num_val, size)
    set_data_root(cfg, str(root))
    for part in ('train', 'val', 'test'):
        for dataset in datasets(cfg, f'{part}_dataloader'):
            if source.layout == 'coco':
                _rename_coco(dataset, root, part)
    loaders = [f'{p}_dataloader' for p in ('train', 'val', 'test')]
    try:
        check_data(cfg, tuple(name for name in loaders if cfg.get(name)))
    except LaunchError as error:
        line = str(error).splitlines()[0]
        raise LaunchError(
            f'A rehearsal has digits in the usual folders only. {line}'
        ) from None


def _rename_coco(dataset: ConfigDict, root: Path, part: str) -> None:
    """Give a data set of the user's own its files and classes."""
    split = 'train' if part == 'train' else 'val'
    images = (dataset.get('data_prefix') or {}).get('img') or ''
    labels = dataset.get('ann_file') or ''
    for path in (images, labels):
        if not dataset.get('data_root') or Path(path).is_absolute():
            raise LaunchError(
                'A rehearsal puts digits under data_root; the paths in '
                f"'{path}' and the like must be relative to one."
            )
    names = (dataset.get('metainfo') or {}).get('classes')
    names = [names] if isinstance(names, str) else list(names or [])
    stock = root / f'{split}2017'
    if (root / images) == stock and (root / labels).exists() and not names:
        return
    content = json.loads(
        (root / 'annotations' / f'instances_{split}2017.json').read_text()
    )
    (root / images).mkdir(parents=True, exist_ok=True)
    for image in content['images']:
        path = stock / image['file_name']
        if (root / images) != stock:  # one folder may be for all splits
            image['file_name'] = os.path.relpath(path, root / images)
    if names:
        content['categories'] = [
            dict(id=i, name=name) for i, name in enumerate(names, 1)
        ]
        for note in content['annotations']:
            digit = digits.COCO_IDS.index(note['category_id'])
            note['category_id'] = 1 + digit % len(names)
    (root / labels).parent.mkdir(parents=True, exist_ok=True)
    (root / labels).write_text(json.dumps(content))


def local_weights(cfg: Config, folder: Path) -> list[str]:
    """Fetch the weights that the model starts from.

    Where one cannot be fetched, random weights in a file of the released form
    take its place, so that reading and matching are rehearsed all the same.

    Args:
        cfg (Config): Changed in place: the local files' paths.
        folder (Path): For stand-ins.

    Returns:
        list[str]: A line for each file.
    """
    said: dict[str, str] = {}
    for part in cfg.model.values():
        init_cfgs = part.get('init_cfg') if isinstance(part, dict) else None
        for init_cfg in (
            init_cfgs if isinstance(init_cfgs, list) else [init_cfgs]
        ):
            url = str((init_cfg or {}).get('checkpoint'))
            if not url.startswith(('http://', 'https://')):
                continue  # on disk, or of a kind that mmengine knows
            try:
                path = weights.fetch_checkpoint(url)
                said[url] = str(path)
            except weights.CheckpointError as error:
                if kind(cfg.model.backbone) != 'SMT':
                    raise
                path = folder / Path(url).name
                _stand_in(cfg, path, init_cfg.get('prefix'))
                reason = str(error).splitlines()[1].strip(' ().')
                said[url] = f'random ones for {path.name} ({reason})'
            init_cfg.checkpoint = str(path)
    return list(said.values())


def _stand_in(cfg: Config, path: Path, prefix: str | None) -> None:
    """Random weights of the config's arch, with a classifier."""
    args = dict(cfg.model.backbone, init_cfg=None, out_indices=(3,))
    args.pop('type')
    model = SMT(**args)
    classes = 21841 if '22k' in path.name else 1000
    state = model.state_dict()
    state['head.weight'] = torch.randn(classes, model.embed_dims[-1]) * 0.02
    state['head.bias'] = torch.zeros(classes)
    if prefix:
        prefix = prefix.rstrip('.')
        state = {f'{prefix}.{name}': value for name, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(model=state), path)


# Watching a run --------------------------------------------------------------


class ProbeHook(Hook):
    """Notes what each iteration was, and kills the run once.

    It is killed in its second half, as soon as there is a checkpoint from
    which to go on.

    Args:
        path (str): File for a line of JSON an iteration.
    """

    priority = 'VERY_HIGH'

    def __init__(self, path: str) -> None:
        self.path = path
        self.started = 0.0

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Note rate, loss, seconds and memory."""
        loss = float(outputs['loss'])
        cuda = torch.cuda.is_available()
        done = runner.iter + 1
        self._note(
            iteration=runner.iter,
            of=runner.max_iters,
            lr=runner.optim_wrapper.param_groups[0]['lr'],
            loss=loss,
            seconds=time.perf_counter() - self.started,
            gpu=torch.cuda.max_memory_reserved() if cuda else 0,
        )
        if not math.isfinite(loss):
            raise FloatingPointError(f'the loss is {loss}')
        if done == runner.max_iters:
            self._note(idle=idle_parameters(runner))
        saved = Path(runner.work_dir, 'last_checkpoint').is_file()
        if done > runner.max_iters // 2 and saved and not runner._resume:
            os.kill(os.getpid(), signal.SIGKILL)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Note the metrics."""
        self._note(
            metrics={
                name: float(value)
                for name, value in metrics.items()
                if isinstance(value, Real)
            }
        )

    def _note(self, **note) -> None:
        with open(self.path, 'a') as file:
            file.write(json.dumps(note) + '\n')


def idle_parameters(runner: Runner) -> list[str]:
    """Parameters that are to be trained and never had a gradient.

    DDP stops at these in the second iteration. Told by the optimizer, which
    has no state for them.
    """
    state = getattr(runner.optim_wrapper.optimizer, 'state', {})
    return [
        name
        for name, param in runner.model.named_parameters()
        if state and param.requires_grad and param not in state
    ]


class Stage(NamedTuple):
    """A line of the rehearsal's table.

    Args:
        name (str): What was done.
        seconds (float): How long it took.
        memory (float | None): Peak of the process, in GiB; on a GPU, of it.
        result (str): What came of it.
        ok (bool): Whether as it should.
    """

    name: str
    seconds: float
    memory: float | None
    result: str
    ok: bool = True


class Failure(RuntimeError):
    """A stage did not do what it should."""


CURES = (
    (
        'out of memory',
        '--cfg-options model.backbone.with_cp=True, a smaller batch, or a '
        'GPU with more memory',
    ),
    (
        'index k out of range',
        'the images are too small for the number of queries: a higher --scale',
    ),
    (
        'Expected more than 1 value per channel',
        'batch norm needs a batch of two at least',
    ),
    ('No space left', 'make room under the work dir'),
    ('is out of bounds', 'num_classes of every head: that of the data'),
    (
        'smaller than num_classes',
        'num_classes of every head: that of the data',
    ),
    ('device-side assert', 'num_classes of every head: that of the data'),
    ('shared memory', 'fewer num_workers, or a larger /dev/shm'),
    ('is not in the', 'name the module that registers it in custom_imports'),
    ('the loss is', 'a lower learning rate; bf16 instead of fp16'),
)


def cure(log: str) -> str:
    """What to do about an error, if that is known."""
    return next((c for sign, c in CURES if sign.lower() in log.lower()), '')


class Rehearsal:
    """The stages of a config's life.

    Args:
        cfg (Config): As :func:`mmsmt.launch.load_config` gives it; changed.
        work_dir (Path): A new folder, for everything that is written.
        tools (Path): Where train.py and test.py are.
        scale (float): Of the images; 1.0 is the real one.
        length (int): Epochs.
        batch (int, optional): Images of an iteration at most.
        amp (bool): Automatic mixed precision.
    """

    def __init__(
        self,
        cfg: Config,
        work_dir: Path,
        tools: Path,
        scale: float,
        length: int = LENGTH,
        batch: int | None = None,
        amp: bool = False,
    ) -> None:
        self.cfg = cfg
        self.work_dir = work_dir
        self.tools = tools
        self.scale = scale
        self.length = length
        self.amp = amp
        self.real = Config(cfg.to_dict())
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
        """In what the rehearsal is not the real thing."""
        loop = self.real.train_cfg
        length = (
            f'{min(self.length, loop.max_epochs)} of {loop.max_epochs} epochs'
            if loop.get('max_epochs')
            else f'{self.length * STEPS} of {loop.max_iters} iterations'
        )
        batch = self.cfg.train_dataloader.batch_size
        real = self.real.train_dataloader.batch_size
        return (
            f'Unlike the real run: {length}, one process, digits for data, '
            f'images x {self.scale:g}, every score counts'
            + (f', batch {batch} instead of {real}' if batch != real else '')
            + '.'
        )

    def run(self) -> bool:
        """Go through the stages until one fails; whether none did."""
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
            except (
                Failure,
                LaunchError,
                weights.CheckpointError,
            ) as error:
                result, ok = str(error), False
            except Exception:  # a config of a kind not thought of
                lines = traceback.format_exc().strip().splitlines()
                result, ok = '\n    '.join(['', *lines[-6:]]), False
            seconds = time.perf_counter() - start
            self.stages.append(Stage(name, seconds, self.memory, result, ok))
            if not ok:
                break
        return all(stage.ok for stage in self.stages)

    # Stages

    def make_data(self) -> str:
        """Write the digits."""
        cfg = self.cfg
        steps = shorten(cfg, self.length)
        scale_images(cfg, self.scale)
        predict_something(cfg)
        use_digits(cfg, self.work_dir / 'data', steps, self.scale)
        hook = ConfigDict(
            type='mmsmt.rehearsal.ProbeHook', path=str(self.probe)
        )
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]
        cfg.resume = False
        return f'{source_of(cfg).layout} of digits'

    def make_weights(self) -> str:
        """Fetch what the model starts from, and write the config."""
        said = local_weights(self.cfg, self.work_dir / 'weights')
        self.cfg.dump(self.config)
        return '; '.join(said) or 'none: from scratch'

    def train(self) -> str:
        """Train until the run is killed."""
        status, log = self._tool('train', 'train.py', *self._amp())
        done = self._iterations()
        self.killed = status == -signal.SIGKILL and bool(done)
        if self.killed:  # by the hook, or by a system without memory?
            last = self.work_dir / 'run' / 'last_checkpoint'
            self.killed = last.is_file() and (
                done[-1]['iteration'] >= done[-1]['of'] // 2
            )
        if status and not self.killed:
            raise Failure(self._report(log, status))
        self._gpu_memory()
        if not self.killed:
            return f'{len(done)} iterations; no checkpoint before the last'
        return f'killed in iteration {len(done)} of {done[-1]["of"]}'

    def resume(self) -> str:
        """Go on to the end, where the schedule was; validate."""
        before = self._iterations()
        if self.killed:
            status, log = self._tool(
                'resume', 'train.py', '--resume', *self._amp()
            )
            if status:
                raise Failure(self._report(log, status))
        self._gpu_memory()
        after = self._iterations()[len(before) :]
        if self.killed and (not after or after[0]['iteration'] == 0):
            raise Failure('the run began anew: the kill left no checkpoint')
        last = (after or before)[-1]
        if last['iteration'] + 1 != last['of']:
            raise Failure(f'it ended after {last["iteration"] + 1}')
        rates: dict[int, float] = {}
        for note in before + after:
            i = note['iteration']
            if not math.isclose(rates.setdefault(i, note['lr']), note['lr']):
                raise Failure(
                    f'the learning rate of iteration {i + 1} was {rates[i]:g} '
                    f'and is {note["lr"]:g} after resuming'
                )
        idle = [n['idle'] for n in self._notes() if 'idle' in n][-1]
        if idle and not self.cfg.get('find_unused_parameters'):
            raise Failure(
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
            raise Failure('it was never validated')
        if not found[-1]:
            raise Failure('the validation has no metric')
        name, value = next(iter(found[-1].items()))
        return f'{text}; {len(found)} validations, {name} {value:.3g}'

    def test(self) -> str:
        """Test the last checkpoint, with pictures."""
        if not self.cfg.get('test_dataloader'):
            return 'the config has no test data'
        pictures = self.work_dir / 'pictures'
        status, log = self._tool(
            'test', 'test.py', self._last(), '--show-dir', pictures
        )
        if status:
            raise Failure(self._report(log, status))
        found = [
            path
            for path in pictures.rglob('*')
            if path.suffix in ('.png', '.jpg')
        ]
        if not found:
            raise Failure(f'no picture was written under {pictures}')
        return f'{len(found)} pictures in {found[0].parent}'

    def test_with_tta(self) -> str:
        """Test with augmentation, where the config has one."""
        if not (self.cfg.get('tta_model') and self.cfg.get('test_dataloader')):
            return 'the config has none'
        status, log = self._tool('tta', 'test.py', self._last(), '--tta')
        if status:
            raise Failure(self._report(log, status))
        views = [len(step) for step in self.cfg.tta_pipeline[1].transforms[:2]]
        return f'{math.prod(views)} views of each image'

    # Helpers

    def _amp(self) -> list[str]:
        return ['--amp'] if self.amp else []

    def _tool(self, name: str, tool: str, *args) -> tuple[int, str]:
        """Run a tool in its own process; its status and output."""
        folder = 'run' if tool == 'train.py' else name
        command = [sys.executable, self.tools / tool, self.config, *args]
        command += ['--work-dir', self.work_dir / folder]
        path = self.work_dir / f'{name}.log'
        with open(path, 'w') as log:
            process = subprocess.Popen(
                [str(part) for part in command],
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
        """The end of a log that tells why, and what to do."""
        if status == -signal.SIGKILL:
            log += '\nkilled: out of memory?'
        lines = [line for line in log.splitlines() if line.strip()]
        text = f'exit status {status}\n    ' + '\n    '.join(lines[-12:])
        known = cure('\n'.join(lines[-30:]))
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
        """The full schedule's time and memory, from the iterations seen.

        Returns:
            str: None without a GPU, or where size or batch were not real.
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
        return estimate(
            [note['seconds'] for note in notes],
            max(note['gpu'] for note in notes),
            torch.cuda.get_device_properties(0).total_memory,
            self.real,
            torch.cuda.get_device_name(0),
        )

    def clean(self) -> None:
        """Remove the checkpoints, which are large and of no use."""
        for folder in ('run', 'weights'):
            for path in (self.work_dir / folder).glob('*.pth'):
                path.unlink()


def estimate(
    seconds: Iterable[float],
    peak: int,
    capacity: int,
    cfg: Config,
    device: str,
) -> str:
    """Say how long a config's whole training takes, and what memory.

    Args:
        seconds (Iterable[float]): Of iterations at the real size and batch;
            the first quarter is left out, as slow.
        peak (int): Memory, in bytes.
        capacity (int): The GPU's memory, in bytes.
        cfg (Config): As shipped.
        device (str): The GPU's name.

    Returns:
        str: Two lines.
    """
    seconds = list(seconds)
    step = median(seconds[len(seconds) // 4 :])
    batch = cfg.train_dataloader.batch_size
    accumulate = cfg.optim_wrapper.get('accumulative_counts', 1)
    gpus = max(1, recipe_batch(cfg) // (batch * accumulate))
    of = ''
    if cfg.train_cfg.get('max_epochs'):
        images = source_of(cfg).train_images
        of = f', with {images} images as in the paper'
        images *= cfg.train_cfg.max_epochs
        iterations = math.ceil(images / (batch * gpus))
    else:
        iterations = cfg.train_cfg.max_iters
    hours = iterations * step / 3600
    return (
        f'The full schedule{of}: {iterations} iterations of {step:.3f} s, '
        f'{hours:.1f} h on {gpus} GPUs ({device}),\nor {hours * gpus:.0f} h '
        'on one; loading, validation and communication come on top.\n'
        f'Memory at {batch} images a GPU: at least {peak / 2**30:.1f} of '
        f'{capacity / 2**30:.1f} GiB.'
    )


def table(stages: Iterable[Stage]) -> Iterator[str]:
    """The lines of the rehearsal's table."""
    yield f'{"stage":<14} {"s":>6} {"GiB":>6}  result'
    for stage in stages:
        memory = '' if stage.memory is None else f'{stage.memory:.2f}'
        state = 'OK  ' if stage.ok else 'FAILED: '
        yield (
            f'{stage.name:<14} {stage.seconds:>6.1f} {memory:>6}  '
            f'{state}{stage.result}'
        )
