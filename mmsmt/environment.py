"""Check that the installed packages are compatible.

Standard library only, so that it works even if no other package imports.
"""

import importlib
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mmsmt.errors import UserError

STACKS: dict[str, dict[str, str]] = {
    'onedl': {
        'mmengine': 'onedl-mmengine',
        'mmcv': 'onedl-mmcv',
        'mmdet': 'onedl-mmdetection',
        'mmseg': 'onedl-mmsegmentation',
        'mmpretrain': 'onedl-mmpretrain',
    },
    'openmmlab': {
        'mmengine': 'mmengine',
        'mmcv': 'mmcv',
        'mmdet': 'mmdet',
        'mmseg': 'mmsegmentation',
        'mmpretrain': 'mmpretrain',
    },
}
"""Distributions by import name, for the two stacks with the same names."""

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
_OTHERS = {'mmcv-full': 'mmcv', 'mmcv-lite': 'mmcv'}

FRESH = (
    'a fresh environment:  python3 tools/setup_env.py  (or --stack openmmlab)'
)


class Problem(NamedTuple):
    """A problem of the environment, and the fix."""

    what: str
    cure: str


class EnvironmentProblem(UserError):
    """Error for incompatible installed packages."""


def installed() -> dict[str, str]:
    """Return the versions of the relevant installed distributions."""
    names = ['torch', 'torchvision', 'transformers', *_OTHERS]
    for stack in STACKS.values():
        names += stack.values()
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def import_error(module: str) -> str | None:
    """Return the error of importing a module, or None."""
    try:
        importlib.import_module(module)
    except Exception as error:
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0] if lines else ""}'


def providers(packages: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the installed distributions that provide each import name."""
    result: dict[str, list[str]] = {}
    for stack in STACKS.values():
        for module, name in stack.items():
            if name in packages:
                result.setdefault(module, []).append(name)
    for name, module in _OTHERS.items():
        if name in packages:
            result.setdefault(module, []).append(name)
    return result


def diagnose(
    packages: Mapping[str, str],
    probe: Callable[[str], str | None] = import_error,
    needs: tuple[str, ...] | None = None,
) -> list[Problem]:
    """Find the problems of an environment.

    Args:
        packages (Mapping[str, str]): Versions by distribution, as from
            :func:`installed`.
        probe (Callable): Function that returns the error of importing a
            module, or None.
        needs (tuple[str], optional): Hosts (``mmdet``, ``mmseg``,
            ``mmpretrain``) that must be installed and import. By default, the
            installed ones must import.

    Returns:
        list[Problem]: Problems, causes before their consequences.
    """

    def named(*names: str) -> str:
        return ' and '.join(f'{name} {packages[name]}' for name in names)

    if 'torch' not in packages:
        return [Problem('torch is not installed', FRESH)]
    have = providers(packages)
    problems = []

    ours = {
        stack: [name for name in names.values() if name in packages]
        for stack, names in STACKS.items()
    }
    if ours['onedl'] and ours['openmmlab']:
        problems.append(
            Problem(
                'packages of both stacks are installed, and they claim the '
                f'same import names: {named(*ours["onedl"])}; '
                f'{named(*ours["openmmlab"])}',
                'keep one stack: pip uninstall -y '
                + ' '.join(ours['onedl'] + ours['openmmlab'])
                + ', then install one again; or '
                + FRESH,
            )
        )
    for module, names in have.items():
        odd = [name for name in names if name in _OTHERS]
        if len(names) > 1 and odd:
            # The fork's package is pure Python; upstream's has to be compiled.
            keep = 'onedl-mmcv' if 'onedl-mmcv' in names else odd[0]
            problems.append(
                Problem(
                    f'{module}/ has two owners: {named(*names)}. Updating or '
                    'removing one deletes files of the other',
                    f'pip uninstall -y {" ".join(names)} && pip install '
                    f'--no-deps {keep}=={packages[keep]}',
                )
            )

    # torchvision takes seconds to import: skip it if only hosts are checked.
    torches = ['torch', 'torchvision'] if needs is None else ['torch']
    problems += _check_torchvision(
        packages, probe, [name for name in torches if name in packages]
    )
    for module in ('mmengine', 'mmcv'):
        if module not in have:
            problems.append(Problem(f'{module} is not installed', FRESH))
    if problems:
        return problems

    error = probe('mmcv')
    if error:
        mmcv = named(*have['mmcv'])
        return [Problem(f'{mmcv} does not import ({error})', FRESH)]
    problems += _check_numpy() + _check_paths()
    problems += _check_operators(packages, named(*have['mmcv']))
    hosts = [m for m in HOSTS if m in have] if needs is None else needs
    for module in hosts:
        if module not in have:
            problems.append(Problem(f'{module} is not installed', FRESH))
            continue
        error = probe(module) or probe(f'{module}.models')
        if error:
            host = named(*have[module])
            what, cure = f'{host} does not import ({error})', FRESH
            if 'MMCV' in error:
                what = f'{host} refuses {named(*have["mmcv"])} ({error})'
            elif 'transformers' in packages:
                what += f'; transformers {packages["transformers"]} is beside'
                cure = "pip install 'transformers<5', or uninstall it"
            problems.append(Problem(what, cure))
    # Only the models of hosts call the operators.
    error = operators_error() if hosts and not problems else None
    if error:
        problems.append(
            Problem(
                f'the operators of {named(*have["mmcv"])} import but do not '
                f'work with {named("torch")} ({error}). They may be compiled '
                'for another torch',
                f'pip uninstall -y {" ".join(have["mmcv"])}, then install '
                'mmcv without operators (onedl-mmcv or mmcv-lite) or compile '
                f'it again; or {FRESH}',
            )
        )
    return problems


def _check_torchvision(
    packages: Mapping[str, str],
    probe: Callable[[str], str | None],
    modules: Iterable[str],
) -> list[Problem]:
    """Check that torchvision matches torch, and that modules import."""
    torch = re.match(r'2\.(\d+)', packages['torch'])
    vision = re.match(r'0\.(\d+)', packages.get('torchvision', ''))
    mismatch = torch and vision and int(vision[1]) != int(torch[1]) + 15
    errors = {module: probe(module) for module in modules}
    if errors.get('torch'):
        return [
            Problem(
                f'torch {packages["torch"]} does not import '
                f'({errors["torch"]})',
                FRESH,
            )
        ]
    error = next((e for e in errors.values() if e), None)
    if not mismatch and not error:
        return []
    cure = 'install the torchvision of this torch'
    if torch and mismatch:
        cure += f': pip install "torchvision==0.{int(torch[1]) + 15}.*"'
    return [
        Problem(
            f'torch {packages["torch"]} and torchvision '
            f'{packages.get("torchvision", "(none)")} do not go together'
            + (f' ({error})' if error else ''),
            f'{cure}; or {FRESH}',
        )
    ]


def _check_numpy() -> list[Problem]:
    """Check that torch and NumPy exchange arrays: torch 2.1 needs NumPy 1."""
    try:
        import numpy
        import torch

        torch.from_numpy(numpy.ones(1))
    except Exception as error:
        version = getattr(sys.modules.get('numpy'), '__version__', '')
        return [
            Problem(
                f'this torch cannot use numpy {version} '
                f'({_first_line(error)})',
                f"pip install 'numpy<2'; or {FRESH}",
            )
        ]
    return []


def _check_paths() -> list[Problem]:
    """Check that mmengine finds packages, whose configs others inherit."""
    try:
        from mmengine.utils import get_installed_path

        get_installed_path('torch')
    except ImportError as error:
        return [
            Problem(
                f'mmengine reads no config of a host ({_first_line(error)})',
                f"pip install 'setuptools<70'; or {FRESH}",
            )
        ]
    except Exception:  # it finds no torch by another way of installing
        return []
    return []


def _check_operators(packages: Mapping[str, str], mmcv: str) -> list[Problem]:
    """Check that mmcv's operators can run, on the GPU if there is one.

    Compiled operators are not needed: torchvision's replace them
    (:mod:`mmsmt.ops`).
    """
    if 'torchvision' not in packages:
        torch = re.match(r'2\.(\d+)', packages['torch'])
        version = f'=="0.{int(torch[1]) + 15}.*"' if torch else ''
        return [
            Problem(
                "torchvision is not installed. mmcv's operators are computed "
                'by its kernels where they are not compiled, and mmpretrain '
                'needs it',
                f'pip install torchvision{version}; or {FRESH}',
            )
        ]
    if not gpu_count():
        return []
    try:
        from mmcv.ops import get_compiling_cuda_version

        cuda = get_compiling_cuda_version()
    except Exception:  # mmsmt does not import: reported elsewhere
        return []
    if re.match(r'\d', cuda):
        return []
    return [
        Problem(
            f'there is a GPU, but the operators of {mmcv} run on the CPU only',
            "install the packages that use torchvision's CUDA kernels, which "
            f'need no nvcc: {FRESH}; or compile mmcv with the CUDA toolkit of '
            'this torch: python3 tools/setup_env.py --compile',
        )
    ]


def operators_error() -> str | None:
    """Return the error of calling an mmcv operator on the CPU, or None.

    An operator compiled for another torch may load but fail when called.
    """
    try:
        import torch
        from mmcv.ops import nms

        nms(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.ones(1), 0.5)
    except Exception as error:
        return _first_line(error)
    return None


def gpu_count() -> int:
    """Return the number of GPUs that torch can use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cpu_name() -> str:
    """Return the model name of the CPU, or its kind where none is told."""
    path = Path('/proc/cpuinfo')
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line for line in lines if line.startswith('model name')]
    if names:
        return names[0].split(':')[1].strip()
    return platform.processor() or platform.machine()


def describe_device() -> str:
    """Return the name of the GPU, or of the CPU with the number of CPUs."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'{cpu_name()}, {os.cpu_count()} CPUs'


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check(needs: tuple[str, ...] | None = None) -> None:
    """Raise an error that lists the problems of the environment, if any.

    Args:
        needs (tuple[str], optional): See :func:`diagnose`.

    Raises:
        EnvironmentProblem: There are problems; the message names the
            installed packages and the fixes.
    """
    packages = installed()
    problems = diagnose(packages, needs=needs)
    if problems:
        found = ', '.join(f'{k} {v}' for k, v in packages.items())
        raise EnvironmentProblem(
            'The installed packages are incompatible.\n'
            + ''.join(f'- {p.what}\n  Cure: {p.cure}\n' for p in problems)
            + f'Found: {found}\n'
            'Full diagnosis: python tools/doctor.py'
        )
