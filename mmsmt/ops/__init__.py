"""mmcv's operators without a compiler.

mmcv takes its operators from an extension module, ``mmcv._ext``, which users
have to compile. If that module is missing, or was compiled for another torch,
this package replaces it: the operators are computed by torchvision's prebuilt
kernels and by PyTorch, on a CPU and on a GPU.

``import mmsmt`` before the first import of mmcv's operators is enough.
:mod:`mmsmt.ops.permanent` installs the replacement for a whole environment.

A compiled ``mmcv._ext`` that loads is never replaced.
"""

from .finder import install, operators_in_use

__all__ = ['install', 'operators_in_use']
