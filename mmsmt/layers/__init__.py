"""Layers of maps: (B, C, H, W) tensors in channels-last memory.

Linear layers and norms act on the last axis of the same memory, seen as
(B, H, W, C); convolutions see it as it is. Nothing is transposed on the way.
Modules stay PyTorch's own, so that tools recognize them; the functions here
call them, or compute the same from their weights where that is faster and
nothing observes the module (:func:`mmsmt.execution.contracts.is_stock`).
"""
