"""Load checkpoints completely, or report the mismatches."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsmt import weights
from mmsmt.registry import HOOKS
from mmsmt.weights import host_models


@HOOKS.register_module()
class WholeCheckpointHook(Hook):
    """Hook that rejects checkpoints that do not exactly fit the model.

    Applies to ``load_from`` and ``resume``. Unlike :func:`.strict_loader`, it
    names the file and the config in its message and can allow a partial load.

    Args:
        strict (bool): Set to False to load the matching weights and warn, for
            fine-tuning from a model with other classes. Defaults to True.
    """

    # Before an averaged model (EMAHook) loads the checkpoint too.
    priority = 'VERY_HIGH'

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes before the weights are copied.

        Raises:
            CheckpointError: Names or shapes differ from the model's; the
                message lists the differences and matching configs.
        """
        model = host_models.bare_model(runner.model)
        state = host_models.match_names(model, checkpoint)
        # mmengine loads the weights under this key only.
        checkpoint['state_dict'] = state
        expected = host_models.whole_state_dict(runner.model)
        problems = weights.describe_mismatches(expected, state)
        if not problems:
            return
        # A resumed run has the same model.
        if self.strict or runner._resume:
            raise weights.CheckpointError(
                f"The checkpoint '{runner.cfg.load_from or 'to resume'}' does "
                f'not fit the model of {runner.cfg.filename}; nothing was '
                f'loaded.\n{problems}'
                f'{host_models.describe_origin(checkpoint, state)}'
                f'{host_models.HOW_TO_FINETUNE}'
            )
        runner.logger.warning(f'The checkpoint is loaded in part.\n{problems}')
        if host_models.is_sharded(runner.model):  # which raises for shapes
            state = {
                name: value
                for name, value in state.items()
                if name in expected and value.shape == expected[name].shape
            }
        checkpoint['state_dict'] = host_models.allow_partial_load(state)
