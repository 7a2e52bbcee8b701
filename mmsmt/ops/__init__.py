"""mmcv's operators without a compiler.

mmcv looks its operators up in an extension module, ``mmcv._ext``, which its
users have to compile. Where that module is missing, or was compiled for
another torch, this package stands in for it: the operators are computed by
torchvision's prebuilt kernels and by PyTorch, on a CPU and on a GPU.

``import mmsmt`` is enough where it comes before mmcv's operators are first
imported. :mod:`mmsmt.ops.permanent` makes it so for a whole environment.

A compiled ``mmcv._ext`` that loads is never replaced.
"""

from .finder import install, operators_in_use

__all__ = ['install', 'operators_in_use']
