"""Load checkpoints completely, or report what does not fit."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsmt import weights
from mmsmt.registry import HOOKS
from mmsmt.weights import host_models


@HOOKS.register_module()
class WholeCheckpointHook(Hook):
    """Refuse a ``load_from`` or ``resume`` file that does not cover the model.

    The message names the file and the config, where :func:`.strict_loader`
    knows neither; and a partial load is allowed here.

    Args:
        strict (bool): False to load what fits and warn, for fine-tuning from
            a model with other classes. Defaults to True.
    """

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes before the weights are copied.

        Raises:
            CheckpointError: They are not exactly the model's; it says what is
                missing or unexpected, and which config the file looks like.
        """
        model = host_models.bare_model(runner.model)
        state = host_models.match_names(model, checkpoint)
        # mmengine looks here only, and loads nothing if it is elsewhere.
        checkpoint['state_dict'] = state
        problems = weights.describe_mismatches(model.state_dict(), state)
        if not problems:
            return
        # A run that resumes continues with the same model.
        if self.strict or runner._resume:
            raise weights.CheckpointError(
                f"The checkpoint '{runner.cfg.load_from or 'to resume'}' does "
                f'not fit the model of {runner.cfg.filename}; nothing was '
                f'loaded.\n{problems}'
                f'{host_models.describe_origin(checkpoint, state)}'
                f'{host_models.HOW_TO_FINETUNE}'
            )
        runner.logger.warning(f'The checkpoint is loaded in part.\n{problems}')
        checkpoint['state_dict'] = host_models.allow_partial_load(state)
