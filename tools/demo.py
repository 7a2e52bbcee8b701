"""Watch a Mask R-CNN with an SMT backbone learn, from nothing.

    make demo      (or: python tools/demo.py)

Writes scenes of handwritten digits in COCO's layout, trains
configs/demo/mask_rcnn_smt_t_digits.py with tools/train.py, and draws a
learning curve and predictions. Interrupted, it resumes where it was.
"""

import argparse
import io
import json
import re
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from mmsmt.datasets import digits
from mmsmt.optim import cpu_has_bf16

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/demo/mask_rcnn_smt_t_digits.py'
BOX, MASK = 'coco/bbox_mAP', 'coco/segm_mAP'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', type=Path, default=Path('data/demo_digits'))
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/demo')
    )
    parser.add_argument('--train', type=int, default=1440, help='images')
    parser.add_argument('--val', type=int, default=100, help='images')
    parser.add_argument(
        '--epochs', type=int, help='fewer or more than the config has'
    )
    args = parser.parse_args()
    start = time.time()
    try:
        made = digits.write(
            'coco', args.data, args.train, args.val, size=(128, 128)
        )
    except FileExistsError as error:
        sys.exit(f'{error} (Here: --data DIR.)')
    print(f'Data: {args.data}' + ('' if made else ' (kept)'), flush=True)

    command = [sys.executable, ROOT / 'tools/train.py', CONFIG, '--resume']
    command += ['--data-root', args.data, '--work-dir', args.work_dir]
    epochs = args.epochs or Config.fromfile(CONFIG).train_cfg.max_epochs
    command += [
        '--cfg-options',
        f'train_cfg.max_epochs={epochs}',
        f'param_scheduler.1.end={epochs}',
    ]
    if not torch.cuda.is_available() and cpu_has_bf16():
        command.append('--amp')
    if last_epoch(args.work_dir) < epochs:
        run_tool(command, args.work_dir / 'train.log', epochs)
    records = read_records(args.work_dir)
    scores = [r for r in records if BOX in r and r['step'] == epochs]
    if not scores:  # interrupted between the last epoch and its evaluation
        scores = [test(args.data, args.work_dir, epochs)]
    curve = draw_curve(records, args.work_dir / 'learning_curve.png')
    # The hosts' notices would hide the result.
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        sheet = draw_predictions(args.data, args.work_dir, epochs)
    print(
        f'\nAfter {epochs} epochs, on {args.val} validation images:\n'
        f'  box AP   {scores[-1][BOX]:.3f}\n'
        f'  mask AP  {scores[-1][MASK]:.3f}\n'
        f'Learning curve: {curve}\n'
        f'Predictions:    {sheet}\n'
        f'{time.time() - start:.0f} s in all'
    )


def test(data: Path, work_dir: Path, epochs: int) -> dict:
    """Evaluate the last checkpoint with tools/test.py."""
    out = work_dir / 'test'
    command = [sys.executable, ROOT / 'tools/test.py', CONFIG]
    command += [work_dir / f'epoch_{epochs}.pth', '--data-root', data]
    command += ['--work-dir', out]
    run_tool(command, work_dir / 'test.log', epochs)
    return json.loads(max(out.glob('*/*.json')).read_text())


def run_tool(command: list, log: Path, epochs: int) -> None:
    """Run a tool with its output in a log and one line of progress."""
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f'Log: {log}', flush=True)
    with open(log, 'wb') as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    shown, width = '', 0
    terminal = sys.stdout.isatty()
    try:
        while process.poll() is None:
            time.sleep(0.5)
            line = progress(log.read_text(errors='replace'), epochs)
            # A line that replaces itself, or elsewhere one for each tenth.
            mark = line if terminal else re.sub(r'\d %.*', '', line)
            if mark != shown:
                shown = mark
                width = max(width, len(line))
                end = '\r' if terminal else '\n'
                print(line.ljust(width), end=end, flush=True)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if terminal:
        print()
    if process.returncode:
        tail = log.read_text(errors='replace').splitlines()[-20:]
        sys.exit('\n'.join([*tail, f'\n{command[1]} failed; see {log}']))


def progress(log: str, epochs: int) -> str:
    """Sum up a log of mmengine's in one line."""
    steps = re.findall(
        r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].* eta: ([\d:]+)'
        r'.* loss: ([\d.]+)',
        log,
    )
    if not steps:
        return 'Starting'
    epoch, done, total, left, loss = steps[-1]
    percent = 100 * int(done) // int(total)
    text = f'Training: epoch {epoch} of {epochs}, {percent:3d} %'
    text += f', loss {loss}, {left} left'
    if log.rfind('Epoch(val)') > log.rfind('Epoch(train)'):
        text = f'Evaluating after epoch {epoch} of {epochs}'
    return text


def last_epoch(work_dir: Path) -> int:
    """Count the epochs that are trained and saved."""
    last = work_dir / 'last_checkpoint'
    if not last.is_file():
        return 0
    return int(Path(last.read_text().strip()).stem.split('_')[-1])


def read_records(work_dir: Path) -> list:
    """Read what mmengine logged in all runs; a repeated step counts once."""
    by_step = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            by_step[BOX in record, record['step']] = record
    return [by_step[key] for key in sorted(by_step)]


def draw_curve(records: list, path: Path) -> Path:
    """Draw losses and accuracies over the run."""
    train = [r for r in records if 'loss' in r]
    val = [r for r in records if BOX in r]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    steps = [r['step'] for r in train]
    for name in ('loss_rpn_cls', 'loss_cls', 'loss_bbox', 'loss_mask'):
        left.plot(steps, [r[name] for r in train], label=name)
    left.set(xlabel='iteration', ylabel='loss', title='Training')
    left.set_ylim(bottom=0)
    left.legend()
    epochs = [r['step'] for r in val]
    right.plot(epochs, [r[BOX] for r in val], 'o-', label='box AP')
    right.plot(epochs, [r[MASK] for r in val], 's-', label='mask AP')
    right.set(xlabel='epoch', ylabel='COCO AP', title='Validation')
    right.set_xticks(epochs)
    right.set_ylim(0, 1)
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def draw_predictions(
    data: Path, work_dir: Path, epochs: int, count: int = 12
) -> Path:
    """Draw truth and predictions above 0.5 side by side, per image."""
    from mmdet.apis import inference_detector, init_detector
    from pycocotools.coco import COCO

    checkpoint = work_dir / f'epoch_{epochs}.pth'
    model = init_detector(str(CONFIG), str(checkpoint), device='cpu')
    coco = COCO(str(data / 'annotations/digits_val2017.json'))
    labels = {c['id']: c['name'] for c in coco.dataset['categories']}
    columns = 4
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, 2 * columns, figsize=(4 * columns, 2.2 * rows)
    )
    for i, info in enumerate(coco.loadImgs(coco.getImgIds()[:count])):
        path = data / 'val2017' / info['file_name']
        image = np.asarray(Image.open(path))
        truth = [
            (labels[a['category_id']], a['bbox'], coco.annToMask(a))
            for a in coco.imgToAnns[info['id']]
        ]
        found = inference_detector(model, image[..., ::-1]).pred_instances
        found = found[found.scores > 0.5]
        predicted = [
            (
                f'{int(label)} {score:.2f}',
                [x1, y1, x2 - x1, y2 - y1],
                mask.numpy(),
            )
            for label, score, (x1, y1, x2, y2), mask in zip(
                found.labels,
                found.scores.tolist(),
                found.bboxes.tolist(),
                found.masks,
            )
        ]
        pair = axes[i // columns, 2 * (i % columns) :][:2]
        for axis, title, objects in zip(
            pair, ('truth', 'SMT-T'), (truth, predicted)
        ):
            axis.imshow(image)
            axis.set_title(title, fontsize=8)
            axis.autoscale(False)
            for number, (label, (x, y, w, h), mask) in enumerate(objects):
                color = plt.get_cmap('tab10')(number % 10)
                axis.add_patch(
                    plt.Rectangle((x, y), w, h, fill=False, color=color)
                )
                axis.contour(mask, [0.5], colors='white', linewidths=0.8)
                axis.text(
                    x,
                    y - 1,
                    label,
                    fontsize=7,
                    color='white',
                    bbox=dict(facecolor=color, pad=0.5, edgecolor='none'),
                )
    for axis in axes.flat:
        axis.axis('off')
    figure.tight_layout()
    path = work_dir / 'predictions.png'
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('\nInterrupted. The same command resumes from here.')
