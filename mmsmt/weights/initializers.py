"""Initializers for the ``init_cfg`` of a config."""

from mmengine.model.weight_init import update_init_info
from torch import nn

from mmsmt.models import SMT
from mmsmt.models.state_dict import StateDict
from mmsmt.registry import WEIGHT_INITIALIZERS

from .fetching import CheckpointError, fetch_checkpoint
from .imagenet22k import imagenet_22k_synsets, imagenet_22k_to_1k
from .loading import describe_mismatches, load_weights
from .reading import read_classes, read_weights


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


@WEIGHT_INITIALIZERS.register_module()
class PretrainedClassifier:
    """Initializer of a linear head from the classifier of a checkpoint.

    An ImageNet-1K head takes the rows of its classes from an ImageNet-22K
    classifier: by the names of the classes that a checkpoint of mmengine
    carries, else in the order of the released weights.

    Args:
        checkpoint (str): A local path or URL of a released file, or of a
            classifier that mmpretrain trained.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def __call__(self, module: nn.Module) -> None:
        """Load the classifier into ``module.fc``.

        Raises:
            CheckpointError: The file has no classifier, or one of another
                number of classes or channels.
        """
        path = str(fetch_checkpoint(self.checkpoint))
        state = read_weights(path)
        given = {
            name: state[f'{head}.{name}']
            for name in ('weight', 'bias')
            for head in ('head', 'head.fc')
            if f'{head}.{name}' in state
        }
        synsets = imagenet_22k_synsets()
        if (
            len(given) == 2
            and len(given['weight']) == len(synsets)
            and module.fc.out_features == 1000
        ):
            order = read_classes(path)
            if order is None and 'head.fc.weight' in state:
                raise CheckpointError(
                    f"'{path}' names no classes: which row is which cannot "
                    'be told. Give the checkpoint that the training wrote.'
                )
            order = order or synsets  # the released file
            if sorted(order) != sorted(synsets):
                raise CheckpointError(
                    f"'{path}' names {len(order)} classes, such as "
                    f"'{order[0]}', which are not ImageNet-22K's: rows of "
                    'ImageNet-1K cannot be taken from them.'
                )
            row_of = {name: row for row, name in enumerate(order)}
            rows = [row_of[synsets[i]] for i in imagenet_22k_to_1k()]
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
