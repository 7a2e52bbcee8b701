"""Initializers for the ``init_cfg`` of a config."""

from pathlib import Path

from mmengine.model.weight_init import update_init_info
from torch import nn

from mmsmt.models import SMT
from mmsmt.models.state_dict import StateDict
from mmsmt.registry import WEIGHT_INITIALIZERS

from .fetching import CheckpointError
from .loading import describe_mismatches, load_weights
from .reading import read_weights


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """Initializer that loads a checkpoint with :func:`load_weights`.

    ``SMT`` uses it instead of mmengine's ``Pretrained``, which skips weights
    that do not fit.

    Args:
        checkpoint (str): A local path or URL.
        prefix (str, optional): See :func:`read_weights`.
        adapt_in_channels (bool): Adapt the first convolution to another
            number of input channels (:func:`.adapt_first_convolution`).
            Defaults to False, which raises an error for other numbers.
        map_location (str, optional): Accepted as in mmengine, and ignored:
            weights are read on the CPU and copied to the model's device.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str | None = None,
        adapt_in_channels: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.adapt_in_channels = adapt_in_channels

    def __call__(self, module: SMT) -> None:
        """Load the checkpoint into a backbone."""
        load_weights(
            module, self.checkpoint, self.prefix, self.adapt_in_channels
        )
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'loaded from {self.checkpoint}')


def imagenet_22k_to_1k() -> list[int]:
    """Return the index of each ImageNet-1K class among the 21,841 of 22K.

    Both in their usual order; the 22K classes are those of the fall 2011
    release, as in the released weights.
    """
    path = Path(__file__).with_name('imagenet22k_to_1k.txt')
    return [int(index) for index in path.read_text().split()]


@WEIGHT_INITIALIZERS.register_module()
class PretrainedClassifier:
    """Initializer of a linear head from the classifier of a released file.

    An ImageNet-1K head takes the rows of its classes from an ImageNet-22K
    classifier.

    Args:
        checkpoint (str): A local path or URL.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def __call__(self, module: nn.Module) -> None:
        """Load the classifier into ``module.fc``.

        Raises:
            CheckpointError: The file has no classifier, or one of another
                number of classes or channels.
        """
        state = read_weights(self.checkpoint)
        given = {
            name: state[f'head.{name}']
            for name in ('weight', 'bias')
            if f'head.{name}' in state
        }
        if (
            len(given) == 2
            and len(given['weight']) == 21841
            and module.fc.out_features == 1000
        ):
            rows = imagenet_22k_to_1k()
            given = {name: value[rows] for name, value in given.items()}
        problems = describe_mismatches(module.fc.state_dict(), given)
        if problems:
            raise CheckpointError(
                f"The classifier in '{self.checkpoint}' does not fit the "
                f'head.\n{problems}To start with a new one: --cfg-options '
                'model.head.init_cfg=None'
            )
        module.fc.load_state_dict(given)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'loaded from {self.checkpoint}')


def classifier_state(state: StateDict) -> StateDict:
    """Rename a released file's weights as in an mmpretrain classifier.

    Args:
        state (dict[str, Tensor]): Weights of a backbone, ``head.weight`` and
            ``head.bias``.

    Returns:
        dict[str, Tensor]: The weights under ``backbone.`` and ``head.fc.``.
    """
    return {
        name.replace('head.', 'head.fc.')
        if name.startswith('head.')
        else f'backbone.{name}': value
        for name, value in state.items()
    }
