"""The scope ``mmsmt`` in mmengine's registries.

mmengine imports this module when a config names ``mmsmt.<type>``.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_CONSTRUCTORS,
)
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_INITIALIZERS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmsmt',
    locations=['mmsmt.models', 'mmsmt.runtimes'],
)
WEIGHT_INITIALIZERS = Registry(
    'weight initializer',
    parent=MMENGINE_INITIALIZERS,
    scope='mmsmt',
    locations=['mmsmt.models', 'mmsmt.weights'],
)
OPTIM_WRAPPERS = Registry(
    'optim wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmsmt',
    locations=['mmsmt.optim'],
)
DATASETS = Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope='mmsmt',
    locations=['mmsmt.data.imagenet22k'],  # needs mmpretrain
)
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmsmt',
    locations=['mmsmt.runtimes.resizing'],  # needs mmdet
)
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='mmsmt',
    locations=['mmsmt.hooks'],
)
LOOPS = Registry(
    'loop',
    parent=MMENGINE_LOOPS,
    scope='mmsmt',
    locations=['mmsmt.runs.loops'],
)
STRATEGIES = Registry(
    'strategy',
    parent=MMENGINE_STRATEGIES,
    scope='mmsmt',
    locations=['mmsmt.runs.sharding'],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_CONSTRUCTORS,
    scope='mmsmt',
    locations=['mmsmt.layer_decay'],  # needs mmpretrain
)
