"""Layers of maps: (B, C, H, W) tensors in channels-last memory.

Linear layers and norms act on the last axis of the same memory, viewed as
(B, H, W, C); convolutions use it directly. No data is transposed. Modules are
PyTorch's own, so that tools recognize them; these functions call them, or
compute the same result from their weights if that is faster and the module is
stock and without hooks (:func:`mmsmt.execution.contracts.is_stock`).
"""
