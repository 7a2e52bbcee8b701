"""Recognize the config that a checkpoint was trained with.

``fingerprints.json`` holds, for each shipped config, a digest of its model's
names and shapes (one for each package stack, where they differ). After adding
or changing a config, run in an environment of each stack::

    python -m mmsmt.weights.fingerprints
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mmsmt.paths import configs_dir

FILE = Path(__file__).with_name('fingerprints.json')


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Digest the names and shapes of weights, without their values.

    ``num_batches_tracked``, which old files lack, is ignored.
    """
    lines = sorted(
        f'{name} {tuple(value.shape)}'
        for name, value in state.items()
        if not name.endswith('num_batches_tracked')
    )
    return sha256('\n'.join(lines).encode()).hexdigest()[:16]


def find_configs(state: Mapping[str, Tensor]) -> list[str]:
    """Find the shipped configs whose model has exactly these weights.

    Returns:
        list[str]: File names, such as ``mask_rcnn_smt_s_1x.py``.
    """
    digest = fingerprint(state)
    return [
        name
        for name, digests in json.loads(FILE.read_text()).items()
        if digest in digests
    ]


def update_file() -> None:
    """Add the digests of the installed stack's models to the file."""
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    updated = {}
    for path in sorted(configs_dir().rglob('*.py')):
        if '_base_' in path.parts:
            continue
        cfg = Config.fromfile(path)
        init_default_scope(cfg.default_scope)
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
        digests = {*known.get(path.name, ()), fingerprint(model.state_dict())}
        updated[path.name] = sorted(digests)
    FILE.write_text(json.dumps(updated, indent=1) + '\n')


if __name__ == '__main__':
    update_file()
