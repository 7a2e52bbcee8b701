"""The golden cases: outputs of the authors' code under remade weights."""

import json
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
NAMES = ('tiny', 'small', 'small-paper', 'base', 'large-22k')


def arch_args(name: str) -> dict:
    """Arguments of SMT for a golden case."""
    if name == 'large-22k':
        return dict(arch='large', layer_scale_init_value=1e-4)
    return dict(arch=name)


def shapes(name: str) -> dict[str, list]:
    """Names and shapes in the released checkpoint."""
    return json.loads((GOLDEN / f'keys_{name}.json').read_text())


def weights(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """The weights of a golden case, under the released names."""
    return {
        key: torch.tensor(0)
        if key.endswith('num_batches_tracked')
        else torch.from_numpy(_value(key, tuple(shape), seed))
        for key, shape in shapes(name).items()
    }


def case(name: str) -> dict:
    """Arrays of a golden case, and its weights under ``weights``."""
    with np.load(GOLDEN / f'{name}.npz') as arrays:
        result = dict(arrays)
    result['weights'] = weights(name, int(result['seed']))
    return result


def save_as_released(
    state: dict[str, torch.Tensor], path: Path, zipped: bool = True
) -> None:
    """Write a file as the authors' training does, a yacs config in it."""
    module = types.ModuleType('yacs.config')

    class CfgNode(dict):
        def __init__(self, init=None):
            super().__init__(init or {})
            self.__dict__['__immutable__'] = False

    CfgNode.__module__, CfgNode.__qualname__ = 'yacs.config', 'CfgNode'
    module.CfgNode = CfgNode
    config = CfgNode(dict(MODEL=CfgNode(dict(NAME='smt_tiny'))))
    sys.modules.update(
        {'yacs': types.ModuleType('yacs'), module.__name__: module}
    )
    try:
        torch.save(
            dict(
                model=state,
                config=config,
                epoch=299,
                max_accuracy=np.float64(82.2),
            ),
            path,
            _use_new_zipfile_serialization=zipped,
        )
    finally:
        del sys.modules['yacs'], sys.modules['yacs.config']


def _value(key: str, shape: tuple, seed: int) -> np.ndarray:
    """Normal noise seeded by the name, shifted and scaled by its kind."""
    seed += zlib.crc32(key.encode())
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    if key.endswith('running_var'):
        noise = 0.5 + np.abs(noise)
    elif key.endswith(('running_mean', 'bias')):
        noise = 0.1 * noise
    elif 'gamma_' in key:
        noise = 0.5 + 0.25 * noise
    elif len(shape) == 1:
        noise = 1.0 + 0.1 * noise
    else:
        noise = noise / np.sqrt(np.prod(shape[1:]))
    return noise.astype(np.float32)
