"""Write ``configs/metafiles``: names of the configs for the hosts.

After adding a config::

    python -m mmsmt.analysis.metafile
"""

from pathlib import Path

import yaml
from mmengine.config import Config

from mmsmt.paths import configs_dir
from mmsmt.weights import RELEASED_WEIGHTS

from .paper import TTA, iter_smt_scores

RELEASED = {
    'smt_t_in1k': ('smt-tiny_3rdparty_in1k', 'tiny'),
    'smt_s_in1k': ('smt-small_3rdparty_in1k', 'small'),
    'smt_b_in1k': ('smt-base_3rdparty_in1k', 'base'),
    'smt_l_in22k': ('smt-large_3rdparty_in22k', 'large-22k'),
    'smt_l_in1k_ft_224': (
        'smt-large_in22k-pre_3rdparty_in1k',
        'large-22k-ft-224',
    ),
    'smt_l_in1k_ft_384': (
        'smt-large_in22k-pre_3rdparty_in1k-384px',
        'large-22k-ft-384',
    ),
}
"""Names in mmpretrain's form, and released weights, of configs."""
TASKS = {
    'coco/bbox_mAP': ('Object Detection', 'COCO', 'box AP'),
    'coco/segm_mAP': ('Instance Segmentation', 'COCO', 'mask AP'),
    'mIoU': ('Semantic Segmentation', 'ADE20K', 'mIoU'),
    'accuracy/top1': (
        'Image Classification',
        'ImageNet-1k',
        'Top 1 Accuracy',
    ),
}
"""Task, dataset and name in metafiles of logged metrics."""
KINDS = {
    'mmdet': ('Object Detection', 'COCO'),
    'mmseg': ('Semantic Segmentation', 'ADE20K'),
    'mmpretrain': ('Image Classification', 'ImageNet'),
}
"""Task and dataset of configs that the paper has no figures of."""
COLLECTION = {
    'Name': 'SMT',
    'Metadata': {
        'Architecture': [
            'Scale-Aware Modulation',
            'Evolutionary Hybrid Network',
        ]
    },
    'Paper': {
        'Title': 'Scale-Aware Modulation Meet Transformer',
        'URL': 'https://arxiv.org/abs/2307.08579',
    },
    'README': 'README.md',
}


def make_metafiles(folder: Path) -> dict[str, dict]:
    """Return metafiles of the configs in a folder, in the hosts' form.

    Names are those of the config files; released classifiers have names in
    mmpretrain's form. ``Results`` are the paper's. Only what the authors
    released has ``Weights``.

    Args:
        folder (Path): The configs.

    Returns:
        dict[str, dict]: Contents of a file for each host.
    """
    results = _collect_results()
    files: dict[str, dict] = {}
    for path in sorted(folder.glob('*.py')):
        scope = Config.fromfile(path).default_scope
        name, key = RELEASED.get(path.stem, (path.stem, ''))
        task, data = KINDS[scope]
        unknown = {'Task': task, 'Dataset': data, 'Metrics': {}}
        model = {
            'Name': name,
            'In Collection': COLLECTION['Name'],
            'Config': f'configs/smt/{path.name}',
            'Results': results.get(path.stem, [unknown]),
        }
        if key:
            model['Weights'] = RELEASED_WEIGHTS[key]
        content = {'Collections': [COLLECTION], 'Models': []}
        files.setdefault(scope, content)['Models'].append(model)
    return files


def _collect_results() -> dict[str, list[dict]]:
    """Return the paper's figures in metafile form, by config."""
    found: dict[str, dict[str, dict]] = {}
    for config, scores in iter_smt_scores():
        for logged, value in scores.items():
            metric = logged.removeprefix(TTA)
            if metric not in TASKS:
                continue
            task, data, label = TASKS[metric]
            if metric != logged:
                label += ' (ms+flip)'
            result = found.setdefault(config, {}).setdefault(
                task, {'Task': task, 'Dataset': data, 'Metrics': {}}
            )
            result['Metrics'][label] = float(value)
    return {name: list(results.values()) for name, results in found.items()}


def main() -> None:
    """Write the files."""
    folder = configs_dir()
    for host, content in make_metafiles(folder).items():
        text = yaml.safe_dump(content, sort_keys=False, width=79)
        path = folder / 'metafiles' / f'{host}.yml'
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'# Written by: python -m {__spec__.name}\n{text}')


if __name__ == '__main__':
    main()
