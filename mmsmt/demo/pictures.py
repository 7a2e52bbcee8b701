"""Draw a learning curve and predictions."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

BOX, MASK = 'coco/bbox_mAP', 'coco/segm_mAP'


def draw_curve(records: list[dict], path: Path) -> Path:
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
    config: str, checkpoint: Path, data: Path, path: Path, count: int = 12
) -> Path:
    """Draw ground truth and predictions with scores above 0.5, per image.

    Args:
        config (str): The config file.
        checkpoint (Path): Weights of a trained detector.
        data (Path): Folder of the digits.
        path (Path): The picture to write.
        count (int): Number of validation images.
    """
    from mmdet.apis import inference_detector, init_detector
    from pycocotools.coco import COCO

    model = init_detector(config, str(checkpoint), device='cpu')
    coco = COCO(str(data / 'annotations/digits_val2017.json'))
    labels = {c['id']: c['name'] for c in coco.dataset['categories']}
    columns = 4
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, 2 * columns, figsize=(4 * columns, 2.2 * rows)
    )
    for i, info in enumerate(coco.loadImgs(coco.getImgIds()[:count])):
        image = np.asarray(Image.open(data / 'val2017' / info['file_name']))
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
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
