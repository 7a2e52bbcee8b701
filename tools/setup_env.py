"""Create an environment of the project: .venv/<name>.

    python3 tools/setup_env.py [--stack onedl|openmmlab] [--cpu] [--compile]

Needs Python 3.10 or later with pip; uv is fetched if it is missing. Versions
are those of requirements/<stack>.txt. Nothing is compiled: mmcv is installed
without its operators, and torchvision's replace them (mmsmt/ops). With
--compile mmcv's own operators are built, which needs a C++ compiler and
Python's headers, and nvcc for a GPU; the wheel is cached under a name with its
versions and platform. With --cpu torch comes without CUDA, from PyTorch's own
index. A ready environment is not changed.
"""

import argparse
import contextlib
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(
    os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'mmsmt'
)
UV_VERSION = '0.13.8'
# mmcv's distributions without and with compiled operators, and the tested
# range of Python versions.
STACKS = {
    'onedl': ('onedl-mmcv', 'onedl-mmcv', (3, 10), (3, 13)),
    'openmmlab': ('mmcv-lite', 'mmcv', (3, 10), (3, 11)),
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--stack',
        choices=STACKS,
        default=os.environ.get('STACK') or 'onedl',
        help='the package set (default: $STACK, or onedl)',
    )
    parser.add_argument(
        '--env',
        metavar='NAME',
        help='folder under .venv (default: the stack, with -compiled where '
        'mmcv is compiled)',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help="compile mmcv's operators instead of using torchvision's",
    )
    parser.add_argument(
        '--cpu',
        action='store_true',
        help='install torch without CUDA, which saves 3 GiB',
    )
    args = parser.parse_args()
    stack = args.stack
    if stack not in STACKS:
        stop(f"STACK='{stack}' is none of {', '.join(STACKS)}.")
    *_, low, high = STACKS[stack]
    version = sys.version_info[:2]
    if not low <= version <= high:
        stop(
            f'The {stack} stack needs Python {dotted(low)} to {dotted(high)}, '
            f'this is {dotted(version)} ({sys.executable}).\n'
            'Set PYTHON to another one, for example '
            f'"make test STACK={stack} PYTHON=python{dotted(high)}".'
        )
    name = args.env or stack + ('-compiled' if args.compile else '')
    if Path(name).name != name or name.startswith('.'):
        stop(f"--env '{name}' is no name of a folder under .venv.")
    lock = ROOT / 'requirements' / f'{stack}.txt'
    env = ROOT / '.venv' / name
    stamp = env / 'ready'
    ops = ROOT / 'mmsmt' / 'ops'
    sources = lock, ROOT / 'setup.py', Path(__file__)
    sources += ops / 'finder.py', ops / 'permanent.py'
    key = [sys.version, str(ROOT), str(args.compile and has_nvcc())]
    key += [str(args.compile), str(args.cpu), *map(digest, sources)]
    key = '\n'.join(key)
    if stamp.is_file() and stamp.read_text() == key:
        return
    start = time.time()
    uv = find_uv()
    say(f'Setting up {env.relative_to(ROOT)} (Python {dotted(version)})')
    with replaced(env):
        build(args, uv, env)
        stamp.write_text(key)
    say(f'Ready after {time.time() - start:.0f} s')


@contextlib.contextmanager
def replaced(env: Path) -> Iterator[None]:
    """Create an environment; on failure restore the ready one before it."""
    former = env.with_name(env.name + '-former')
    content = [env] if env.is_file() else list(env.glob('*'))
    if content and not (env / 'pyvenv.cfg').is_file():
        stop(f"'{env}' is no environment: move it away.")
    if (env / 'ready').is_file():
        shutil.rmtree(former, ignore_errors=True)
        env.rename(former)
    shutil.rmtree(env, ignore_errors=True)
    try:
        yield
    except BaseException:
        if former.exists():
            shutil.rmtree(env, ignore_errors=True)
            former.rename(env)
            say(f'{env.relative_to(ROOT)} is as it was before.')
        raise
    shutil.rmtree(former, ignore_errors=True)


def interpreter() -> str:
    """Return this Python, or its base if it is of an environment here."""
    if (ROOT / '.venv') in Path(sys.prefix).resolve().parents:
        return getattr(sys, '_base_executable', sys.executable)
    return sys.executable


def build(args: argparse.Namespace, uv: str, env: Path) -> None:
    """Create an environment and check that it works."""
    pure, compiled, *_ = STACKS[args.stack]
    run(uv, 'venv', '-q', '--python', interpreter(), env)
    python = env / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    pins = (ROOT / 'requirements' / f'{args.stack}.txt').read_text()
    if args.cpu:
        pins = without_cuda(pins)
    mmcv_pin = re.search(rf'^{pure}==\S+', pins, re.M)[0]
    chosen = env / 'requirements.txt'
    chosen.write_text(pins.replace(mmcv_pin, '') if args.compile else pins)
    say('Installing torch and the OpenMMLab packages')
    install = [uv, 'pip', 'install', '-q', '--no-deps', '--python', python]
    setuptools = re.search(r'^setuptools==\S+', pins, re.M)[0]
    constraint = env / 'build-constraints.txt'
    constraint.write_text(setuptools + '\n')
    install += ['--build-constraints', constraint]
    if args.cpu:
        install += ['--torch-backend', 'cpu']
    # In one command: mmcv and mmsmt are built in isolated environments, mmcv
    # without torch, so that its operators are not compiled.
    run(*install, '-r', chosen, '-e', ROOT)
    at_fault = ''
    if args.compile:
        pin = mmcv_pin.replace(f'{pure}==', f'{compiled}==')
        wheel = mmcv_wheel(python, pin, env.name)
        run(*install, wheel)
        at_fault = f' If mmcv is at fault, delete\n  {wheel}\nfirst.'
    else:
        permanent = ROOT / 'mmsmt' / 'ops' / 'permanent.py'
        run(python, permanent, stdout=subprocess.DEVNULL)
    check = subprocess.run(
        [python, ROOT / 'tools' / 'doctor.py', '--brief'], cwd=ROOT
    )
    if check.returncode:
        stop(
            'The environment was created but does not work (see above). Fix '
            f'the problem and run this again.{at_fault}'
        )


def without_cuda(pins: str) -> str:
    """Remove CUDA's libraries from pins."""
    return re.sub(r'^(nvidia|cuda|triton)\b.*\n', '', pins, flags=re.M)


def has_nvcc() -> bool:
    """Check that mmcv would be compiled for a GPU."""
    return Path('/dev/nvidiactl').exists() and bool(shutil.which('nvcc'))


def find_uv() -> str:
    """Return uv from the PATH or the cache; fetch it if it is missing."""
    found = shutil.which('uv')
    if found:
        return found
    home = CACHE / f'uv-{UV_VERSION}'
    uv = home / 'bin' / ('uv.exe' if os.name == 'nt' else 'uv')
    if not uv.is_file():
        say('Fetching uv')
        shutil.rmtree(home, ignore_errors=True)
        pip = [sys.executable, '-m', 'pip', 'install', '-q']
        pip += ['--disable-pip-version-check', '--target', home]
        run(*pip, f'uv=={UV_VERSION}', quiet=True)
    return str(uv)


def mmcv_wheel(python: Path, pin: str, env: str) -> Path:
    """Return mmcv's wheel for this torch and Python, compiled or cached."""
    probe = (
        'import torch; from torch.utils.cpp_extension import CUDA_HOME as h;'
        'print(torch.__version__, torch.version.cuda '
        'if h and torch.cuda.is_available() else "", '
        'torch.cuda.is_available())'
    )
    result = subprocess.run(
        [python, '-W', 'ignore', '-c', probe], capture_output=True, text=True
    )
    if result.returncode:
        stop(f'torch does not import:\n{result.stderr}')
    torch, cuda, gpu = result.stdout.rstrip('\n').split(' ')
    if gpu == 'True' and not cuda:
        say(
            "WARNING: there is a GPU but no CUDA toolkit (nvcc): mmcv's ops "
            'are compiled for the CPU only, and detectors will not train on '
            'the GPU. Install the toolkit of this torch and run this again, '
            'or leave out --compile, which needs none.'
        )
    name = '-'.join(
        [
            pin.replace('==', '-'),
            f'torch{torch}',
            f'cuda{cuda}' if cuda else 'cpu',
            f'cp{sys.version_info[0]}{sys.version_info[1]}',
            f'{platform.system().lower()}_{platform.machine()}',
        ]
    )
    home = CACHE / 'wheels' / name
    wheels = list(home.glob('*.whl'))
    if wheels:
        say(f'mmcv: the wheel compiled before ({home})')
        return wheels[0]
    if not shutil.which(os.environ.get('CXX', 'c++')):
        stop(
            'mmcv has to be compiled, and there is no C++ compiler. On '
            'Debian or Ubuntu: apt-get install build-essential'
        )
    if not Path(sysconfig.get_paths()['include'], 'Python.h').is_file():
        stop(
            "mmcv has to be compiled, and Python's headers are missing. On "
            'Debian or Ubuntu: apt-get install python3-dev'
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    log = ROOT / '.venv' / f'mmcv-build-{env}.log'
    say(f'Compiling {pin} for torch {torch}: 5 to 10 minutes, once.')
    say(f'Its output goes to {log}')
    with tempfile.TemporaryDirectory(dir=home.parent) as build:
        command = [python, '-m', 'pip', 'wheel', '-v', '--no-deps']
        command += ['--no-build-isolation', '--no-cache-dir']
        command += ['--no-binary', pin.split('==')[0], '-w', build, pin]
        environ = {**os.environ, 'MMCV_WITH_OPS': '1', 'MAX_JOBS': jobs()}
        environ.pop('FORCE_CUDA', None)
        if not cuda:  # mmcv compiles for CUDA if a GPU is visible
            environ['CUDA_VISIBLE_DEVICES'] = ''
        if compile_logged(command, environ, log):
            tail = log.read_text(errors='replace').splitlines()[-20:]
            stop(
                '\n'.join(tail) + '\n\nmmcv did not compile. The lines above '
                f'are the end of\n  {log}'
            )
        done = Path(build, 'done')
        done.mkdir()
        for wheel in Path(build).glob('*.whl'):
            wheel.rename(done / wheel.name)
        shutil.rmtree(home, ignore_errors=True)
        done.rename(home)
    return next(home.glob('*.whl'))


def compile_logged(command: list, environ: dict, log: Path) -> int:
    """Run a command with its output in a log; print ninja's progress."""
    start, shown = time.time(), -1
    with open(log, 'wb') as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environ
        )
    try:
        while process.poll() is None:
            time.sleep(1)
            steps = re.findall(rb'^\s*\[(\d+)/(\d+)\]', log.read_bytes(), re.M)
            done, total = map(int, steps[-1] if steps else (0, 0))
            step = done if sys.stdout.isatty() else done // 10
            if total and step != shown:
                shown = step
                say(
                    f'  mmcv: {done} of {total} files, '
                    f'{time.time() - start:.0f} s',
                    end='\r' if sys.stdout.isatty() else '\n',
                )
    except BaseException:
        process.terminate()
        raise
    return process.returncode


def jobs() -> str:
    """Return the number of compiler processes: one per core and 2 GiB."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    by_memory = max(1, memory // 2**31)
    default = min(len(os.sched_getaffinity(0)), by_memory)
    return os.environ.get('MAX_JOBS', str(default))


def run(
    *command: object, quiet: bool = False, stdout: TextIO | None = None
) -> None:
    """Run a command; exit with a message if it fails."""
    command = [str(part) for part in command]
    environ = dict(os.environ)
    if 'PIP_INDEX_URL' in environ:
        environ.setdefault('UV_DEFAULT_INDEX', environ['PIP_INDEX_URL'])
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        stdout=stdout,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
    )
    if result.returncode:
        stop(f'{result.stderr or ""}This failed: {" ".join(command)}')


def digest(path: Path) -> str:
    """Return a file's SHA-256 digest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def dotted(version: tuple[int, ...]) -> str:
    """Format a version, such as ``3.10``."""
    return '.'.join(map(str, version))


def say(text: str, end: str = '\n') -> None:
    """Print a text without buffering."""
    print(text, end=end, flush=True)


def stop(text: str) -> None:
    """Exit with a message."""
    sys.exit(f'\n{text}')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        stop('Interrupted; run it again to resume.')
