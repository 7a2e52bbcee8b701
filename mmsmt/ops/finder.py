# mypy: ignore-errors
"""Replace ``mmcv._ext`` if no compiled one loads.

Only the standard library is imported at the top, so that a copy of this file
can run at the start of every Python of an environment
(:mod:`mmsmt.ops.permanent`). The operators, and with them torch and
torchvision, are imported at the first call: ``mmcv.ops`` only needs their
names.
"""

import importlib
import sys

EXTENSION = 'mmcv._ext'


class ExtensionFinder:
    """Finder of the compiled ``mmcv._ext`` or its replacement."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> object:
        """Return a spec for ``mmcv._ext``, and None for any other module."""
        if name != EXTENSION:
            return None
        from importlib.machinery import ModuleSpec, PathFinder

        compiled = PathFinder.find_spec(name, path)
        origin = compiled.origin if compiled else 'mmsmt.ops'
        return ModuleSpec(name, ExtensionLoader(compiled), origin=origin)


class ExtensionLoader:
    """Loader of the compiled module or its replacement.

    Args:
        compiled (ModuleSpec, optional): Spec of the compiled module, if any.
    """

    def __init__(self, compiled: object) -> None:
        self.compiled = compiled
        self.loaded = False

    def create_module(self, spec: object) -> object:
        """Load the shared library; report a failure in one line."""
        if self.compiled is None:
            return None
        from importlib.util import module_from_spec

        try:
            module = module_from_spec(self.compiled)
        except ImportError as error:
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            print(
                "mmsmt: mmcv's compiled operators do not load for this torch "
                f"({reason}); torchvision's are used instead.",
                file=sys.stderr,
            )
            return None
        self.loaded = True
        return module

    def exec_module(self, module: object) -> None:
        """Initialize the compiled module, or fill its replacement."""
        if self.loaded:
            self.compiled.loader.exec_module(module)
            return

        def __getattr__(name: str) -> object:
            if name.startswith('__'):
                raise AttributeError(f"'{EXTENSION}' has no '{name}'")
            operator = make_operator(name)
            setattr(module, name, operator)
            return operator

        module.__doc__ = "mmcv's operators, computed by mmsmt.ops."
        module.__getattr__ = __getattr__


def make_operator(name: str) -> object:
    """Make a function that imports the operator ``name`` when called."""

    def operator(*args: object, **kwargs: object) -> object:
        from mmsmt.ops.kernels import find_kernel

        return find_kernel(name)(*args, **kwargs)

    operator.__name__ = operator.__qualname__ = name
    return operator


def install() -> None:
    """Insert the finder before Python's own, once per process."""
    names = [type(finder).__name__ for finder in sys.meta_path]
    if ExtensionFinder.__name__ not in names:
        sys.meta_path.insert(0, ExtensionFinder())


def operators_in_use() -> str:
    """Return ``'compiled'`` or ``'torchvision'``, the source of mmcv.ops.

    Raises:
        ImportError: mmcv is not installed, or neither is available.
    """
    loader = importlib.import_module(EXTENSION).__spec__.loader
    ours = type(loader).__name__ == ExtensionLoader.__name__
    return 'torchvision' if ours and not loader.loaded else 'compiled'
