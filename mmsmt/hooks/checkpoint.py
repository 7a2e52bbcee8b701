"""Load checkpoints completely, or report the mismatches."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsmt import weights
from mmsmt.registry import HOOKS
from mmsmt.weights import host_models

FEWEST = 0.1
"""Share of the tensors that a checkpoint loaded in part must have."""


@HOOKS.register_module()
class WholeCheckpointHook(Hook):
    """Hook that rejects checkpoints that do not exactly fit the model.

    Applies to ``load_from`` and ``resume``. Unlike :func:`.strict_loader`, it
    names the file and the config in its message and can allow a partial load.

    Args:
        strict (bool): Set to False to load the matching weights and warn, for
            fine-tuning from a model with other classes; of another model,
            hardly any match, which is an error still. Defaults to True.
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
        fitting = {
            name: value
            for name, value in state.items()
            if name in expected and value.shape == expected[name].shape
        }
        for part in ('backbone.', ''):
            names = [name for name in expected if name.startswith(part)]
            found = sum(name in fitting for name in names)
            if found < FEWEST * len(names):
                raise weights.CheckpointError(
                    f"'{runner.cfg.load_from}' is of another model: "
                    f'{found} of {len(names)} tensors of '
                    f'{f"its {part[:-1]}" if part else "the model"} fit; '
                    f'nothing was loaded.\n{problems}'
                    f'{host_models.describe_origin(checkpoint, state)}'
                )
        runner.logger.warning(
            f'The checkpoint is loaded in part: {len(fitting)} of '
            f'{len(expected)} tensors.\n{problems}'
        )
        if host_models.is_sharded(runner.model):  # which raises for shapes
            state = fitting
        checkpoint['state_dict'] = host_models.allow_partial_load(state)
