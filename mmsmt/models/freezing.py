"""Frozen stages and norms of a backbone."""

from mmengine.model import BaseModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm


class FreezableBackbone(BaseModule):
    """Base of a backbone with ``frozen_stages`` and ``norm_eval``.

    A subclass has stages ``patch_embed<i>``, ``block<i>`` and ``norm<i>``,
    i = 1, 2, ..., and calls :meth:`freeze_stages` after building them.
    """

    frozen_stages: int
    norm_eval: bool

    def train(self, mode: bool = True) -> 'FreezableBackbone':
        """Set the mode of the modules that are not frozen.

        Frozen stages and, with ``norm_eval``, batch norms stay in evaluation
        mode.
        """
        super().train(mode)
        self.freeze_stages()
        if mode and self.norm_eval:
            for m in self.modules():
                if isinstance(m, _BatchNorm):
                    m.eval()
        return self

    def freeze_stages(self) -> None:
        """Freeze the stem if ``frozen_stages`` >= 0, and that many stages."""
        names = [] if self.frozen_stages < 0 else ['patch_embed1']
        for i in range(1, self.frozen_stages + 1):
            names += [f'patch_embed{i}', f'block{i}', f'norm{i}']
        for name in names:
            module = getattr(self, name)
            module.eval()
            module.requires_grad_(False)
