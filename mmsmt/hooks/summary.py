"""Log a summary of a run before it starts."""

import logging
from collections.abc import Sequence

from mmengine.dist import all_gather_object, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsmt.models import SMT
from mmsmt.optim import list_wrappers
from mmsmt.registry import HOOKS
from mmsmt.weights.host_models import bare_model, is_partial, is_sharded


@HOOKS.register_module()
class SummaryHook(Hook):
    """Hook that logs a summary of the run before its first iteration.

    It reports data, weights, parameters, batch and learning rate, with a
    warning if the learning rate, or a schedule that counts iterations, does
    not fit the batch.
    """

    priority = 'LOWEST'
    loaded: str | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record the source of the loaded weights."""
        what = 'resumed' if runner.cfg.get('resume') else 'loaded'
        if is_partial(checkpoint.get('state_dict')):
            what += ' in part'
        where = runner.cfg.get('load_from') or runner.work_dir
        self.loaded = f'{what} from {where}'

    def before_train(self, runner: Runner) -> None:
        """Log the summary."""
        model = bare_model(runner.model)
        total = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if is_sharded(runner.model):
            parts = all_gather_object((total, trained))
            total, trained = map(sum, zip(*parts))
        if not is_main_process():
            return
        warn_of_unused_keys(runner, [n for n, _ in model.named_parameters()])
        loader = runner.train_dataloader
        dataset = loader.dataset
        cfg = runner.cfg
        batch = loader.batch_size or loader.batch_sampler.batch_size
        wrappers = list_wrappers(runner.optim_wrapper)
        accumulate = getattr(wrappers[0], '_accumulative_counts', 1)
        effective = batch * get_world_size() * accumulate
        # The wrapper's own list has one more, with the config's settings.
        rates = [
            group.get('initial_lr', group['lr'])
            for wrapper in wrappers
            for group in getattr(wrapper, 'optimizer', wrapper).param_groups
        ]
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
        if recipe and scaled:  # mmengine's value is per iteration
            recipe = round(recipe * accumulate)
        given = (cfg.optim_wrapper.get('optimizer') or {}).get('lr')
        lr = given or max(rates)
        if given and recipe and scaled:
            lr *= effective / recipe
        lines = [
            f'data       {len(dataset)} images'
            + (f' in {root}' if root else ''),
            f'weights    {"; ".join(weights) or "no SMT in the model"}',
            f'parameters {total / 1e6:.2f} M, {trained / 1e6:.2f} M trained',
            f'batch      {effective} = {get_world_size()} processes x {batch}'
            + (f' x {accumulate} accumulated' if accumulate > 1 else '')
            + (f'; the recipe has {recipe}' if recipe else ''),
            f'lr         {lr:g}'
            + (
                f', by parameter {min(rates):g} to {max(rates):g}'
                if min(rates) < max(rates)
                else ''
            ),
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
        images = batch * get_world_size()
        if recipe and recipe != images and not cfg.train_cfg.get('max_epochs'):
            runner.logger.log(
                logging.WARNING,
                f'The schedule counts iterations, of {images} images where '
                f'the recipe has {recipe}: for as many images in all, '
                f'multiply train_cfg.max_iters ({runner.max_iters} here), and '
                'the ends and milestones of param_scheduler, by '
                f'{recipe / images:g}.',
            )


def warn_of_unused_keys(runner: Runner, names: Sequence[str]) -> None:
    """Warn of multipliers of learning rates that match no parameter.

    Args:
        runner (Runner): The runner.
        names (Sequence[str]): Names of the model's parameters.
    """
    wrapper = runner.cfg.get('optim_wrapper') or {}
    paramwise = wrapper.get('paramwise_cfg') or {}
    for key in paramwise.get('custom_keys') or {}:
        if not any(key in name for name in names):
            runner.logger.warning(
                f'optim_wrapper.paramwise_cfg.custom_keys has {key!r}, which '
                'is in the name of no parameter: it has no effect.'
            )
