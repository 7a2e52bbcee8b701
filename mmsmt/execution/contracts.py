"""Check that a module may be computed without calling it.

A fast path takes a module's weights and computes its result without the call.
Tools for quantization, pruning, adapters, observation and sharding rely on the
call, so the fast paths apply only to stock modules without hooks.
:func:`disabled`, or ``MMSMT_PLAIN=1`` in the environment, turns all of them
off.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module

_STOCK = ('torch.nn.modules.', 'mmcv.cnn.', 'mmengine.model.', 'mmsmt.')
_plain = os.environ.get('MMSMT_PLAIN', '0') not in ('', '0')

# Before torch 2.3 the compiler cannot look up a module's class or overrides.
_OLD_COMPILER = not hasattr(torch.compiler, 'is_compiling')
is_compiling = (torch._utils if _OLD_COMPILER else torch.compiler).is_compiling


class _Pass(threading.local):
    """Record the checks of the pass that runs in this thread."""

    stock = False
    inferred = False


_pass = _Pass()


@contextmanager
def checked_once(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Check all modules of a model once for a pass, not each in each call.

    Small maps take less time to compute than checks of each layer. If all
    modules are stock, no other code runs between them: inside the ``with``
    block :func:`is_stock` then holds for all, and :func:`inferred_on_cpu` is
    that of ``x``. Otherwise both check each call.

    Not for use while :func:`is_transformed`.

    Args:
        model (nn.Module): Model whose ``forward`` runs; it is not checked
            itself.
        x (Tensor): Its input.
    """
    before = _pass.stock, _pass.inferred
    _pass.stock = _pass.inferred = False
    try:
        _pass.stock = all(map(are_stock, model.children()))
        _pass.inferred = _pass.stock and inferred_on_cpu(x)
        yield
    finally:
        _pass.stock, _pass.inferred = before


@contextmanager
def disabled() -> Iterator[None]:
    """Turn every fast path off inside a ``with`` block, for all threads.

    Results stay equal up to rounding; use it to test whether a fast path
    causes a difference.
    """
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def enabled() -> bool:
    """Return False inside :func:`disabled` and with ``MMSMT_PLAIN=1``."""
    return not _plain


def is_stock(module: nn.Module) -> bool:
    """Check that a call of a module runs only its stock class's forward.

    False for a module with a hook of any kind (forward, backward, pre,
    global), a parametrization or a wrapper (both change the class), a
    ``forward`` that is replaced or compiled, or a weight that is not a plain
    tensor (torchao's), and while fast paths are turned off.
    """
    return _pass.stock or (
        enabled()
        and not (
            torch_module._global_forward_hooks
            or torch_module._global_forward_pre_hooks
            or torch_module._global_backward_hooks
            or torch_module._global_backward_pre_hooks
            or module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
        )
        and (
            (_OLD_COMPILER and is_compiling())
            or (
                type(module).__module__.startswith(_STOCK)
                and 'forward' not in module.__dict__
                and module.__dict__.get('_compiled_call_impl') is None
            )
        )
        and all(
            parameter is None or type(parameter) in (nn.Parameter, Tensor)
            for parameter in module._parameters.values()
        )
    )


def are_stock(module: nn.Module) -> bool:
    """Check :func:`is_stock` of a module and of all modules within it."""
    return _pass.stock or all(map(is_stock, module.modules()))


def is_transformed() -> bool:
    """Check for a tracer, transform or mode over PyTorch's own operators.

    True while a graph is compiled or traced, under ``torch.func`` and
    forward-mode derivatives, and under dispatch modes, such as PyTorch's FLOP
    counter.
    """
    return bool(
        is_compiling()
        or torch.jit.is_tracing()
        or is_functional()
        or torch._C._len_torch_dispatch_stack()
    )


def is_functional() -> bool:
    """Check for ``torch.func`` and forward-mode derivatives."""
    return (
        forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


def inferred_on_cpu(x: Tensor) -> bool:
    """Check for eager computation on a CPU without gradients of any kind."""
    return _pass.inferred or (
        x.device.type == 'cpu'
        and enabled()
        and not (torch.is_grad_enabled() or is_transformed())
    )


def trained_on_cpu(x: Tensor) -> bool:
    """Check for eager computation on a CPU that records the gradient of x.

    A pass with a non-reentrant checkpoint and its recomputation get the same
    answer, whatever dispatch mode only one of them runs under.
    """
    return (
        not (is_compiling() or torch.jit.is_tracing())
        and x.device.type == 'cpu'
        and enabled()
        and torch.is_grad_enabled()
        and x.requires_grad
    )
