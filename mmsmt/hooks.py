"""Hooks that our configs set: what is loaded is whole, what runs is said."""

import logging

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmsmt import weights
from mmsmt.models import SMT, state_dict
from mmsmt.models.state_dict import StateDict
from mmsmt.registry import HOOKS
from mmsmt.weights.fingerprints import find_configs


@HOOKS.register_module()
class WholeCheckpointHook(Hook):
    """Refuse a ``load_from`` or ``resume`` file that does not cover the model.

    mmengine loads with ``strict=False`` and goes on with what is missing left
    at random.

    Args:
        strict (bool): False to go on with a warning, for fine-tuning from a
            model with other classes. Defaults to True.
    """

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare names and shapes before the weights are copied.

        Raises:
            CheckpointError: They are not exactly the model's; says what is
                missing or unexpected, and which config it looks like.
        """
        model = bare_model(runner.model)
        state = weights.extract_state_dict(checkpoint)
        if (
            isinstance(getattr(model, 'backbone', None), SMT)
            and hasattr(getattr(model, 'head', None), 'fc')
            and 'head.weight' in state
        ):
            state = weights.classifier_state(state)
        for name, module in model.named_modules():
            if isinstance(module, SMT):
                prefix = f'{name}.' if name else ''
                state_dict.rename_on_load(module, state, prefix)
        # mmengine looks here only, and loads nothing if it is elsewhere.
        checkpoint['state_dict'] = state
        problems = weights.describe_mismatches(model.state_dict(), state)
        if not problems:
            runner.logger.info(f'Checkpoint: all {len(state)} tensors match.')
        elif self.strict:
            raise weights.CheckpointError(
                f"The checkpoint '{runner.cfg.load_from or 'to resume'}' does "
                f'not fit the model of {runner.cfg.filename}; nothing was '
                f'loaded.\n{problems}{origin(checkpoint, state)}'
                'To load what fits all the same (fine-tuning to other '
                'classes): --cfg-options custom_hooks.0.strict=False'
            )
        else:
            runner.logger.warning(
                f'The checkpoint is loaded in part.\n{problems}'
            )


def bare_model(model: nn.Module) -> nn.Module:
    """The model inside DDP and test-time-augmentation wrappers."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def origin(checkpoint: dict, state: StateDict) -> str:
    """Say where a checkpoint that does not fit comes from.

    Args:
        checkpoint (dict): The file's content.
        state (dict[str, Tensor]): Its weights.

    Returns:
        str: A line for each clue, or ''.
    """
    meta = checkpoint.get('meta')
    name = meta.get('experiment_name') if isinstance(meta, dict) else None
    if name:
        return f'It was saved by the experiment {name}.\n'
    archs = weights.identify_archs(state)
    if archs:
        return (
            f"It is a backbone of arch '{archs[0][0]}' alone. To start from "
            'it, set model.backbone.init_cfg.checkpoint instead of '
            'load_from; to test, give the checkpoint of a trained model.\n'
        )
    configs = find_configs(state)
    return f'It looks like {" or ".join(configs)}.\n' if configs else ''


@HOOKS.register_module()
class SummaryHook(Hook):
    """Say before the first iteration what is about to run.

    Data, weights, parameters, and the batch and learning rate beside the
    recipe's, with a warning where they disagree.
    """

    priority = 'LOWEST'
    loaded: str | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember that something was loaded."""
        what = 'resumed' if runner.cfg.get('resume') else 'loaded'
        where = runner.cfg.get('load_from') or runner.work_dir
        self.loaded = f'{what} from {where}'

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Log the summary."""
        model = bare_model(runner.model)
        loader = runner.train_dataloader
        dataset = loader.dataset
        cfg = runner.cfg
        batch = loader.batch_size or loader.batch_sampler.batch_size
        accumulate = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        effective = batch * get_world_size() * accumulate
        total = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        lr = max(
            group.get('initial_lr', group['lr'])
            for group in runner.optim_wrapper.param_groups
        )
        weights = [
            module.loaded_from or 'none: the backbone starts from scratch'
            for module in model.modules()
            if isinstance(module, SMT)
        ]
        if self.loaded:
            weights = [self.loaded]
        root = getattr(dataset, 'data_root', None)
        scaling = cfg.get('auto_scale_lr') or {}
        scaled = scaling.get('enable', False)
        recipe = scaling.get('base_batch_size')
        if recipe and scaled:  # said in mmengine's terms, of one iteration
            recipe = round(recipe * accumulate)
        lines = [
            f'data       {len(dataset)} images'
            + (f' in {root}' if root else ''),
            f'weights    {"; ".join(weights) or "no SMT in the model"}',
            f'parameters {total / 1e6:.2f} M, {trained / 1e6:.2f} M trained',
            f'batch      {effective} = {get_world_size()} processes x {batch}'
            + (f' x {accumulate} accumulated' if accumulate > 1 else '')
            + (f'; the recipe has {recipe}' if recipe else ''),
            f'lr         {lr:g}',
        ]
        runner.logger.info('Summary\n' + '\n'.join(f'  {s}' for s in lines))
        if recipe and recipe != effective and not scaled:
            right = lr * effective / recipe
            runner.logger.log(
                logging.WARNING,
                f'The batch is {effective} and the recipe has {recipe}, but '
                f'the learning rate is not scaled: {lr:g}, where {right:g} '
                'would be in proportion. Use --auto-scale-lr, or '
                f'--cfg-options optim_wrapper.optimizer.lr={right:g}',
            )
