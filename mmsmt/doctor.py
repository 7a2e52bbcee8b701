"""Diagnose the environment; exit with status 1 if it has a problem.

Works even if torch or a host does not import: modules that need them are
imported only after they are probed.
"""

import argparse
import os
import platform
import sys
import warnings
from pathlib import Path

from mmsmt import environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``doctor``."""
    parser.add_argument(
        '--brief', action='store_true', help='print one line if all is well'
    )


def main(args: argparse.Namespace) -> None:
    """Run ``doctor``."""
    warnings.simplefilter('ignore')  # raised by imports
    packages = environment.installed()
    problems = environment.diagnose(packages)
    if not problems:
        problems = check_registry()
    if not args.brief:
        print(f'python       {platform.python_version()} ({sys.executable})')
        for name, version in packages.items():
            print(f'{name:24s} {version}')
        describe_machine()
        print(f'operators    {describe_operators()[1]}')
    for problem in problems:
        print(f'WRONG        {problem.what}\n  cure:      {problem.cure}')
    if problems:
        sys.exit(1)
    hosts = environment.providers(packages)
    found = [host for host in environment.HOSTS if host in hosts]
    absent = [host for host in environment.HOSTS if host not in hosts]
    print(
        f'All is well: torch {packages["torch"]}, '
        f'{describe_operators()[0]} operators, SMT in '
        f'{", ".join(found) or "mmengine"}'
        + (f'; not installed: {", ".join(absent)}' if absent else '')
    )


def check_registry() -> list[environment.Problem]:
    """Check that every installed host finds SMT."""
    try:
        from mmengine.registry import MODELS, init_default_scope

        from mmsmt.integration import extend_mmengine
        from mmsmt.models import SMT

        extend_mmengine()
    except Exception as error:
        what = f'mmsmt does not import ({type(error).__name__}: {error})'
        return [environment.Problem(what, environment.FRESH)]
    installed = environment.providers(environment.installed())
    problems = []
    for host in environment.HOSTS:
        if host not in installed:
            continue
        init_default_scope(host)
        for name in ('SMT', 'mmsmt.SMT'):
            if MODELS.get(name) is not SMT:
                problems.append(
                    environment.Problem(
                        f'{name} is not mmsmt.SMT in the scope {host}',
                        'rename the other class registered as SMT',
                    )
                )
    return problems


def describe_operators() -> tuple[str, str]:
    """Return the source of mmcv's operators, and a description."""
    try:
        from mmcv.ops import get_compiler_version, get_compiling_cuda_version

        from mmsmt.ops import operators_in_use, permanent

        source = operators_in_use()
        compiler, cuda = get_compiler_version(), get_compiling_cuda_version()
    except Exception as error:
        return 'no', f'do not import: {error}'
    if source == 'compiled':
        return source, f'compiled ({compiler}, CUDA {cuda})'
    where = 'in every Python of this environment'
    if not permanent.find_files():
        where = (
            'after "import mmsmt"; in every Python of this environment by '
            '"python -m mmsmt.ops.permanent"'
        )
    return source, f"torchvision's (CUDA {cuda}), {where}"


def describe_machine() -> None:
    """Print GPUs, cores, caches and datasets."""
    try:
        import torch
    except Exception as error:
        print(f'torch        does not import: {error}')
        return
    count = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(i) for i in range(count)]
    print(f'gpu          {", ".join(names) or "none: runs on the CPU"}')
    print(f'cores        {environment.count_cores()}')
    cache = Path(torch.hub.get_dir(), 'checkpoints')
    weights = sorted(path.name for path in cache.glob('smt_*.pth'))
    print(f'weights      {cache}: {", ".join(weights) or "no smt_*.pth yet"}')
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    wheels = sorted(Path(home, 'mmsmt', 'wheels').glob('*/*.whl'))
    print(f'mmcv wheels  {", ".join(w.parent.name for w in wheels) or "none"}')
    for name, path in (
        ('coco', 'data/coco'),
        ('ade20k', 'data/ade/ADEChallengeData2016'),
        ('imagenet', 'data/imagenet'),
    ):
        state = 'found' if Path(path).exists() else 'missing'
        print(f'{name:12s} {path}: {state}')
