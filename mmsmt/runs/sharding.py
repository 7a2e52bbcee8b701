"""Train a model whose parameters are sharded over the GPUs (FSDP)."""

from typing import Any

from mmengine._strategy.fsdp import FSDPStrategy as MMEngineFSDPStrategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.utils import clip_grad_norm_

from mmsmt.models.smt import SMTBlock
from mmsmt.registry import STRATEGIES


def wrap_smt_blocks(
    module: nn.Module, recurse: bool, nonwrapped_numel: int
) -> bool:
    """Choose the blocks of SMT as FSDP's units, an ``auto_wrap_policy``.

    The parameters of a unit are gathered when it is computed; the rest of the
    model is one unit more.

    Args:
        module (nn.Module): A module of the model.
        recurse (bool): FSDP asks whether to look into the module.
        nonwrapped_numel (int): Parameters that are in no unit yet.
    """
    return recurse or isinstance(module, SMTBlock)


@STRATEGIES.register_module()
class FSDPStrategy(MMEngineFSDPStrategy):
    """Shard a model in blocks of SMT, and resume such a run.

    A checkpoint is one file, as that of a run in one process.

    Args:
        model_wrapper (dict, optional): Arguments of
            ``MMFullyShardedDataParallel``. Defaults to the blocks of SMT as
            units.
        state_dict_cfg (str | dict): See mmengine's strategy. Defaults to
            ``'full'``.
        **kwargs: Other arguments of mmengine's strategy.
    """

    def __init__(
        self,
        *,
        model_wrapper: dict | None = None,
        state_dict_cfg: str | dict = 'full',
        **kwargs: Any,
    ) -> None:
        wrapper = dict(model_wrapper or {})
        wrapper.setdefault('auto_wrap_policy', wrap_smt_blocks)
        super().__init__(
            model_wrapper=wrapper, state_dict_cfg=state_dict_cfg, **kwargs
        )

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: Any = None
    ) -> Any:
        """Build the optimizer wrapper; clip by the norm of all parts.

        mmengine clips each process's part by the norm of that part.
        """
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(wrapper, 'clip_func', None) is clip_grad_norm_:
            wrapper.clip_func = lambda _, *args, **kwargs: (
                model.clip_grad_norm_(*args, **kwargs)
            )
        return wrapper

    def optim_state_dict(self) -> dict:
        """Return the optimizer's state, with the wrapper's: its loss scale."""
        wrapper = self.optim_wrapper.state_dict()
        return {**wrapper, **super().optim_state_dict()}

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the optimizer's state.

        mmengine's form has the order of arguments of PyTorch 2.0.

        Args:
            state_dict (dict): State that :meth:`optim_state_dict` returned.
        """
        own = {key: state_dict[key] for key in ('state', 'param_groups')}
        own = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model,
            optim=self.optim_wrapper.optimizer,
            optim_state_dict=own,
        )
        self.optim_wrapper.load_state_dict({**state_dict, **own})
