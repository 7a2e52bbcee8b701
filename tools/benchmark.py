"""Time and memory of backbones, side by side, on this machine.

    python tools/benchmark.py                         SMT-S and its peers
    python tools/benchmark.py --rows mmsmt plain --sizes 224x224 --batch 8
    python tools/benchmark.py --rows mmsmt plain --tasks detector --dtypes bf16
    python tools/benchmark.py --release ~/SMT         with the authors' code
    python tools/benchmark.py --sizes 224x224 512x512 800x1344 1600x2688 \\
        --plot growth.png                             how the cost grows

Each measurement is a process of its own, and the rows take turns, as often as
--repeats says: they meet the same machine, and the peak of memory is theirs
alone. Printed are medians with the lowest and the highest. Memory is what a
pass needs above the model at rest: the high-water mark of the process on a
CPU, of PyTorch's allocator on a GPU.

The floor of a row is the longer of two times that nothing can beat here: its
products (not what with_cp recomputes) at the rate of the machine's best matrix
product, and the memory that it must cross (training: what autograd keeps,
written once and read once) at the bandwidth of a copy. Both are measured
first, in the same run.

Needs a checkout (the plain form is tests/plain_smt.py) and Linux.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
TASKS = ('inference', 'training', 'detector')
SMT_ROWS = ('mmsmt', 'mmsmt with_cp', 'mmsmt compiled', 'plain', 'release')
SWIN = dict(type='mmdet.SwinTransformer', drop_path_rate=0.0)
PEERS = {
    'swin-t': dict(SWIN, depths=(2, 2, 6, 2)),
    'swin-s': dict(SWIN, depths=(2, 2, 18, 2)),
    'swin-b': dict(
        SWIN, depths=(2, 2, 18, 2), embed_dims=128, num_heads=(4, 8, 16, 32)
    ),
    'convnext-t': dict(
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
    ),
    'pvtv2-b2': dict(
        type='mmdet.PyramidVisionTransformerV2',
        num_layers=[3, 4, 6, 3],
        drop_path_rate=0.0,
    ),
    'resnet-50': dict(type='mmdet.ResNet', depth=50, norm_eval=False),
}
DEFAULT_ROWS = ('mmsmt', 'mmsmt with_cp', 'plain', *PEERS)
DTYPES = dict(fp32='float32', bf16='bfloat16', fp16='float16')
PICTURES = ('.png', '.pdf', '.svg')
MIB = 2**20
OUT_OF_MEMORY = (
    'out of memory',
    "can't allocate memory",
    'Cannot allocate memory',
    'MemoryError',
    'bad_alloc',
    'could not create a memory',
    'could not create a primitive',
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--rows', nargs='+', choices=(*SMT_ROWS, *PEERS), metavar='ROW',
        help=f'some of: {", ".join((*SMT_ROWS, *PEERS))} (default: all but '
        'the compiled and the release)',
    )  # fmt: skip
    parser.add_argument('--arch', default='small', help='of SMT')
    parser.add_argument(
        '--tasks', nargs='+', choices=TASKS, default=TASKS[:2],
        help='inference and training (forward and backward) of the backbone, '
        'a train step of Mask R-CNN with it (default: the first two)',
    )  # fmt: skip
    parser.add_argument(
        '--sizes', nargs='+', type=parse_size, default=[(800, 1344)],
        metavar='HxW', help='of the images (default: 800x1344)',
    )  # fmt: skip
    parser.add_argument('--batch', nargs='+', type=int, default=[1])
    parser.add_argument(
        '--dtypes', nargs='+', choices=DTYPES, default=['fp32'],
        help='fp32, or autocast to bf16 or fp16',
    )  # fmt: skip
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument(
        '--device',
        choices=('cpu', 'cuda'),
        help='default: cuda where there is one',
    )
    parser.add_argument('--threads', type=int, help='of the CPU')
    parser.add_argument(
        '--release', type=Path, metavar='PATH',
        help="a clone of the authors' repository, measured as one more row",
    )  # fmt: skip
    parser.add_argument('--json', type=Path, help='write the figures here too')
    parser.add_argument('--plot', type=Path, help='draw them over image size')
    parser.add_argument('--one', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.batch) < 1 or args.repeats < 1:
        parser.error('--batch and --repeats must be at least 1')
    for path in filter(None, (args.json, args.plot)):
        if not path.resolve().parent.is_dir():
            parser.error(f'there is no folder {path.resolve().parent}')
        if path.exists():
            parser.error(f'{path} exists already: remove it, or name another')
    if args.release and not (args.release / 'models' / 'smt.py').is_file():
        parser.error(
            f'{args.release} has no models/smt.py: --release takes a clone of '
            'https://github.com/AFeng-x/SMT'
        )
    args.rows = list(dict.fromkeys(args.rows or DEFAULT_ROWS))
    if args.release and 'release' not in args.rows:
        args.rows.append('release')
    if 'release' in args.rows and not args.release:
        parser.error("the row 'release' needs --release PATH, a clone of it")
    if args.rows == ['mmsmt with_cp'] and 'inference' in args.tasks:
        parser.error('with_cp is for training: name other --tasks or --rows')
    if args.plot and len(args.sizes) < 2:
        parser.error('--plot needs several --sizes')
    if args.plot and args.plot.suffix not in PICTURES:
        parser.error(f'--plot takes a file {" or ".join(PICTURES)}')
    return args


def parse_size(text: str) -> tuple[int, int]:
    """``'800x1344'`` to height and width."""
    try:
        height, width = map(int, text.split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not HxW, like 800x1344'
        ) from None
    if min(height, width) < 32:
        raise argparse.ArgumentTypeError(f'{text} is below 32x32')
    return height, width


def main() -> None:
    args = parse_args()
    if args.one:
        print(json.dumps(ONES[args.one](args)))
        return
    machine = run_one(args, 'machine', dtypes=args.dtypes)
    if 'failed' in machine:
        sys.exit(f'The limits of this machine: {machine["failed"]}')
    args.device = machine['device']
    print(describe(machine), flush=True)
    cases = [
        dict(task=task, dtype=dtype, batch=batch, size=size)
        for task in args.tasks
        for dtype in args.dtypes
        for batch in args.batch
        for size in args.sizes
    ]
    results = []
    for case in cases:
        rows = [
            row
            for row in args.rows
            if case['task'] != 'inference' or row != 'mmsmt with_cp'
        ]
        results += measure_case(args, case, rows, machine)
        print(table(results[-len(rows) :]), flush=True)
        if args.json:  # what is measured so far is not lost
            args.json.write_text(
                json.dumps(dict(machine=machine, results=results), indent=1)
            )
    if args.plot:
        plot(results, machine, args.plot)


def run_one(args: argparse.Namespace, name: str, **case) -> dict:
    """One measurement in a process of its own, or why there is none."""
    child = dict(case, arch=args.arch, device=args.device)
    child.update(threads=args.threads)
    child['release'] = str(args.release.resolve()) if args.release else None
    process = subprocess.run(
        [sys.executable, __file__, '--one', name],
        env={**os.environ, 'MMSMT_BENCHMARK': json.dumps(child)},
        capture_output=True,
        text=True,
    )
    if process.returncode == 0:
        return json.loads(process.stdout.splitlines()[-1])
    error = process.stderr.strip().splitlines()
    memory = process.returncode in (-9, 137) or any(
        words in process.stderr for words in OUT_OF_MEMORY
    )
    if not memory:
        sys.exit(f'{name} {case} failed:\n' + '\n'.join(error[-20:]))
    return dict(failed='out of memory')


def measure_case(
    args: argparse.Namespace, case: dict, rows: list[str], machine: dict
) -> list[dict]:
    """All rows of one case, in turn."""
    runs = {row: [] for row in rows}
    for _ in range(args.repeats):
        for row in rows:
            if not any('failed' in run for run in runs[row]):
                runs[row].append(run_one(args, 'measure', row=row, **case))
    costs = (
        {}
        if case['task'] == 'detector'
        else run_one(args, 'costs', rows=rows, **case)
    )
    results = []
    for row, measured in runs.items():
        result = dict(case, row=row)
        if 'failed' in measured[-1]:
            result['failed'] = measured[-1]['failed']
        else:
            for key in ('seconds', 'memory'):
                values = sorted(run[key] for run in measured)
                result[key] = statistics.median(values)
                result[f'{key}_range'] = [values[0], values[-1]]
            result['images_per_second'] = case['batch'] / result['seconds']
            if row in costs:
                result.update(costs[row])
                result['floor'] = max(
                    result['flops'] / machine['flops'][case['dtype']],
                    result['bytes'] / machine['bandwidth'],
                )
        results.append(result)
    return results


# In the process of a measurement ---------------------------------------------


def child_args() -> argparse.Namespace:
    """What the parent asks for; PyTorch is set up accordingly."""
    import torch

    args = argparse.Namespace(**json.loads(os.environ['MMSMT_BENCHMARK']))
    if args.threads:
        torch.set_num_threads(args.threads)
    args.device = args.device or (
        'cuda' if torch.cuda.is_available() else 'cpu'
    )
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('There is no GPU that PyTorch can use')
    if args.device == 'cpu':  # fail before the system kills a neighbour
        lines = Path('/proc/meminfo').read_text().splitlines()
        (available,) = (x for x in lines if x.startswith('MemAvailable'))
        used = int(Path('/proc/self/statm').read_text().split()[0])
        limit = used * resource.getpagesize()
        limit += int(0.95 * 1024 * int(available.split()[1]))
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.backends.cudnn.allow_tf32 = False  # as for products, by default
    torch.manual_seed(0)
    return args


def measure_machine(_: argparse.Namespace) -> dict:
    """What it is, and the limits that every row meets."""
    import mmcv
    import mmengine
    import torch
    import torch.nn.functional as F

    import mmsmt

    args = child_args()
    if (args.device, torch.__version__[:4]) == ('cpu', '2.1.') and (
        'fp16' in args.dtypes
    ):
        raise SystemExit('PyTorch 2.1 has no fp16 autocast on a CPU')
    rates = {}

    def best_time(run) -> float:
        return min(clock(run, args.device) for _ in range(20))

    n = 128 if args.device == 'cuda' else 64
    for name in args.dtypes:
        dtype = getattr(torch, DTYPES[name])
        x = torch.randn(1, n, n, n * n // 4, device=args.device, dtype=dtype)
        w = torch.randn(n * n // 4, x.shape[3], device=x.device, dtype=dtype)
        # A CPU's two libraries differ: as a product and as a convolution.
        ways = [lambda x=x, w=w: F.linear(x, w)]
        if args.device == 'cpu':
            image, kernel = x.permute(0, 3, 1, 2), w[:, :, None, None]
            ways.append(lambda i=image, k=kernel: F.conv2d(i, k, dilation=2))
        seconds = min(best_time(way) for way in ways)
        rates[name] = 2 * x.numel() * len(w) / seconds
    source = torch.ones(64 * MIB, device=args.device)
    target = source.clone()
    seconds = best_time(lambda: target.copy_(source))
    return dict(
        device=args.device,
        name=torch.cuda.get_device_name()
        if args.device == 'cuda'
        else f'{cpu_name()}, {torch.get_num_threads()} threads',
        flops=rates,
        bandwidth=2 * source.nbytes / seconds,
        versions=dict(
            mmsmt=mmsmt.__version__,
            torch=torch.__version__,
            mmengine=mmengine.__version__,
            mmcv=mmcv.__version__,
            python=platform.python_version(),
        ),
        date=time.strftime('%Y-%m-%d'),
    )


def cpu_name() -> str:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    names = [line for line in lines if line.startswith('model name')]
    return names[0].split(':')[1].strip() if names else platform.machine()


def clock(run, device: str) -> float:
    """Seconds of one pass."""
    import torch

    wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def median_time(run, device: str, first: float) -> float:
    """Of the given first pass and as many more as two seconds hold."""
    times = [first]
    while sum(times) < 2 and len(times) < 50:
        times.append(clock(run, device))
    return statistics.median(times)


def build(args: argparse.Namespace, row: str):
    """The backbone of a row: images to maps at strides 4, 8, 16, 32."""
    from mmsmt import SMT

    if row in ('plain', 'release') and args.arch not in SMT.ARCHS:
        raise SystemExit(f'--arch is one of {", ".join(SMT.ARCHS)}')
    if row == 'plain':
        sys.path.insert(0, str(ROOT / 'tests'))
        from plain_smt import PlainSMT

        return PlainSMT.of(SMT.ARCHS[args.arch])
    if row == 'release':
        return import_release(Path(args.release), SMT.ARCHS[args.arch])
    if row in PEERS:
        from mmengine.registry import MODELS, init_default_scope

        init_default_scope(PEERS[row]['type'].split('.')[0])
        for host in ('mmdet', 'mmpretrain'):
            __import__(f'{host}.models')
        return MODELS.build(PEERS[row])
    return SMT(args.arch, with_cp=row == 'mmsmt with_cp')


def import_release(clone: Path, arch):
    """The authors' classification backbone, returning the maps of its stages.

    What their file imports besides PyTorch but does not need to compute with
    is put out of the way, so that it need not be installed.
    """
    import torch
    from mmcv.cnn.bricks import DropPath
    from mmengine.model.weight_init import trunc_normal_

    layers = ModuleType('timm.models.layers')
    layers.DropPath, layers.trunc_normal_ = DropPath, trunc_normal_
    layers.to_2tuple = lambda x: x if isinstance(x, tuple) else (x, x)
    unused = ('timm', 'timm.models', 'timm.models.registry', 'timm.data')
    unused += ('timm.models.vision_transformer', 'timm.data.constants')
    unused += ('timm.data.transforms', 'ptflops', 'thop', 'torchvision')
    spec = importlib.util.spec_from_file_location(
        'released_smt', clone / 'models' / 'smt.py'
    )
    module = importlib.util.module_from_spec(spec)
    fakes = {name: mock.MagicMock() for name in unused}
    with mock.patch.dict(sys.modules, {**fakes, layers.__name__: layers}):
        spec.loader.exec_module(module)

    class Released(module.SMT):
        """As its forward_features, but every stage's map is returned."""

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outs = []
            for i in range(1, 5):
                x, h, w = getattr(self, f'patch_embed{i}')(x)
                for block in getattr(self, f'block{i}'):
                    x = block(x, h, w)
                x = getattr(self, f'norm{i}')(x)
                x = x.reshape(len(x), h, w, -1).permute(0, 3, 1, 2)
                outs.append(x.contiguous())
                x = outs[-1]
            return tuple(outs)

    return Released(
        qkv_bias=True,
        head_conv=arch.stem_kernel_size,
        embed_dims=list(arch.embed_dims),
        depths=list(arch.depths),
        mlp_ratios=list(arch.mlp_ratios),
    )


def build_detector(backbone):
    """Mask R-CNN around a backbone."""
    import torch
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    cfg = Config.fromfile(ROOT / 'configs' / 'mask_rcnn_smt_t_1x.py').model
    init_default_scope('mmdet')
    cfg.backbone.pop('init_cfg', None)
    backbone.eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 64))
    cfg.neck.in_channels = [out.shape[1] for out in maps]
    detector = MODELS.build(cfg)
    detector.backbone = backbone
    return detector


def in_fp32(detector) -> None:
    """Proposals, and what RoIAlign reads, whatever autocast makes of them."""
    import torch
    from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor

    def floats(value):
        if isinstance(value, torch.Tensor):
            return value.float() if value.is_floating_point() else value
        return type(value)(map(floats, value))

    detector.rpn_head.register_forward_hook(lambda _, x, out: floats(out))
    for module in detector.modules():
        if isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(
                lambda _, x: (floats(x[0]), *x[1:])
            )


def make_targets(size: tuple[int, int]):
    """What a data set would say of an image: eight objects."""
    import torch
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    height, width = size
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(8, 2, generator=generator) / 2
    end = start + 0.1 + torch.rand(8, 2, generator=generator) * 0.35
    scale = torch.tensor([width, height])
    boxes = torch.cat([start * scale, end * scale], dim=1)
    masks = torch.zeros(8, height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
        mask[y1:y2, x1:x2] = 1
    target = DetDataSample(
        metainfo=dict(
            img_shape=size,
            ori_shape=size,
            pad_shape=size,
            scale_factor=(1.0, 1.0),
        )
    )
    target.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.arange(8),
        masks=BitmapMasks(masks.numpy(), height, width),
    )
    return target


def make_pass(args: argparse.Namespace, model, size: tuple[int, int]):
    """A function that does the task once, on random images."""
    import torch

    shape = (args.batch, 3, *size)
    images = torch.rand(shape, device=args.device)
    autocast = (
        torch.autocast(args.device, dtype=getattr(torch, DTYPES[args.dtype]))
        if args.dtype != 'fp32'
        else nullcontext()
    )
    if args.task == 'inference':
        model.eval()

        def once() -> None:
            with torch.no_grad(), autocast:
                model(images)

    elif args.task == 'training':
        model.train()

        def once() -> None:
            model.zero_grad()
            with autocast:
                outs = model(images)
            sum(out.float().square().mean() for out in outs).backward()

    else:
        model.train()
        model.optimizer = getattr(
            model, 'optimizer', None
        ) or torch.optim.AdamW(model.parameters(), lr=1e-6)
        batch = dict(
            inputs=list((images * 255).to(torch.uint8).cpu()),
            data_samples=[make_targets(size) for _ in range(args.batch)],
        )

        def once() -> None:
            data = model.data_preprocessor(batch, training=True)
            model.zero_grad()
            with autocast:
                losses = model(**data, mode='loss')
            model.parse_losses(losses)[0].backward()
            model.optimizer.step()

    return once


def measure(_: argparse.Namespace) -> dict:
    """Seconds of a pass, and bytes above the model at rest."""
    import torch

    args = child_args()
    model = build(args, args.row)
    if args.row == 'mmsmt compiled':
        model.compile(dynamic=False)
    if args.task == 'detector':
        model = build_detector(model)
        if args.dtype == 'bf16':  # mmcv's nms and RoIAlign have no such kernel
            in_fp32(model)
    model = model.to(args.device)
    size = tuple(args.size)
    compiled = args.row == 'mmsmt compiled'  # for this size alone
    make_pass(args, model, size if compiled else (64, 64))()  # libraries, too
    once = make_pass(args, model, size)
    model.zero_grad()
    if args.device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
    rest = peak_memory(args.device)
    once()
    first = clock(once, args.device)
    peak = peak_memory(args.device)
    return dict(
        seconds=median_time(once, args.device, first), memory=peak - rest
    )


def peak_memory(device: str) -> int:
    """Bytes, the most since the last reset."""
    if device == 'cuda':
        import torch

        return torch.cuda.max_memory_allocated()
    lines = Path('/proc/self/status').read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith('VmHWM'))
    return int(peak.split()[1]) * 1024


def measure_costs(_: argparse.Namespace) -> dict:
    """The cost of each of the rows."""
    args = child_args()
    return {row: cost(args, row) for row in args.rows}


def cost(args: argparse.Namespace, row: str) -> dict:
    """Operations and bytes that the task cannot do without."""
    import torch

    from mmsmt.analysis.complexity import measure as complexity

    size = tuple(args.size)
    stored = args.task == 'training' and row != 'mmsmt with_cp'
    row = row.removesuffix(' with_cp')
    model = build(args, row)
    parameters = sum(p.nbytes for p in model.parameters())
    floats = 4 if args.dtype == 'fp32' else 2
    macs = complexity(build(args, row), size).macs * args.batch
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    model = model.to('meta')
    image = torch.empty(args.batch, 3, *size, device='meta')
    training = args.task == 'training'
    model.train(training)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        # The meta device's own would keep the whole map. This keeps less than
        # a kernel does.
        mock.patch('mmsmt.layers.attention.attend', lambda q, k, v: q * v),
    ):
        outs = model(image)
    crossed = sum(out.numel() for out in outs) * floats + image.nbytes
    if stored:
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        activations = sum(
            storage.nbytes()
            for key, storage in kept.items()
            if key not in weights
        )
        crossed += 2 * activations * floats // 4
    passes = 3 if training else 1  # what is recomputed could be stored
    return dict(flops=2 * macs * passes, bytes=crossed + parameters * passes)


ONES = dict(machine=measure_machine, measure=measure, costs=measure_costs)


# Output ----------------------------------------------------------------------


def describe(machine: dict) -> str:
    rates = ', '.join(
        f'{name} {rate / 1e9:.0f}' for name, rate in machine['flops'].items()
    )
    versions = ', '.join(f'{k} {v}' for k, v in machine['versions'].items())
    return (
        f'{machine["name"]}, {machine["date"]}\n{versions}\n'
        f'Limits: products {rates} GFLOP/s; '
        f'memory {machine["bandwidth"] / 1e9:.1f} GB/s'
    )


def table(results: list[dict]) -> str:
    """The rows of one case."""
    case = results[0]
    height, width = case['size']
    lines = [
        f'\n{case["task"]}, {case["dtype"]}, {case["batch"]} x 3 x {height} x '
        f'{width}',
        f'{"":15s} {"time, ms":>25s} {"images/s":>9s} {"peak, MiB":>21s} '
        f'{"time/plain":>10s} {"peak/plain":>10s} {"x floor":>8s}',
    ]
    plain = next(
        (r for r in results if r['row'] == 'plain' and 'seconds' in r), None
    )
    for r in results:
        if 'failed' in r:
            lines.append(f'{r["row"]:15s} {r["failed"]}')
            continue
        low, high = (1e3 * v for v in r['seconds_range'])
        least, most = (v / MIB for v in r['memory_range'])
        time_ = f'{1e3 * r["seconds"]:.1f} ({low:.1f} - {high:.1f})'
        memory = f'{r["memory"] / MIB:.0f} ({least:.0f} - {most:.0f})'
        ratios = [
            f'{r[key] / plain[key]:.2f}' if plain else ''
            for key in ('seconds', 'memory')
        ]
        floor = f'{r["seconds"] / r["floor"]:.1f}' if 'floor' in r else ''
        lines.append(
            f'{r["row"]:15s} {time_:>25s} {r["images_per_second"]:9.2f} '
            f'{memory:>21s} {ratios[0]:>10s} {ratios[1]:>10s} {floor:>8s}'
        )
    return '\n'.join(lines)


def plot(results: list[dict], machine: dict, path: Path) -> None:
    """Time and memory over the number of pixels, a row of axes per task."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    groups = {}
    for r in results:
        key = r['task'], r['dtype'], r['batch']
        groups.setdefault(key, {}).setdefault(r['row'], []).append(r)
    figure, axes = plt.subplots(
        len(groups), 2, figsize=(11, 4.2 * len(groups)), squeeze=False
    )
    for row_axes, ((task, dtype, batch), rows) in zip(axes, groups.items()):
        sizes = {}
        for ax, key, scale, label in (
            (row_axes[0], 'seconds', 1, 'seconds'),
            (row_axes[1], 'memory', 2**30, 'peak above the model, GiB'),
        ):
            for name, points in rows.items():
                for p in points:
                    sizes[p['size'][0] * p['size'][1] / 1e6] = p['size']
                done = [p for p in points if key in p]
                ax.plot(
                    [p['size'][0] * p['size'][1] / 1e6 for p in done],
                    [p[key] / scale for p in done],
                    marker='o',
                    markersize=4,
                    linewidth=2.2 if name.startswith('mmsmt') else 1.2,
                    linestyle='--' if name in ('plain', 'release') else '-',
                    label=name,
                )
            ax.set(xscale='log', yscale='log', ylabel=label)
            ax.set_title(f'{task}, {dtype}, batch {batch}')
            ax.set_xticks(list(sizes), [f'{h}x{w}' for h, w in sizes.values()])
            ax.set_xticks([], minor=True)
            ax.grid(alpha=0.3)
        row_axes[1].legend(fontsize=8, loc='upper left')
    versions = machine['versions']
    figure.suptitle(
        f'{machine["name"]}, torch {versions["torch"]}, {machine["date"]}',
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f'\nDrawn: {path}')


if __name__ == '__main__':
    main()
