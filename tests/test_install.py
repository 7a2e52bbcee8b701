"""Check a wheel's files and requirements."""

import os
import re
import runpy
import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope='module')
def wheel(new_python, root, tmp_path_factory):
    out = tmp_path_factory.mktemp('wheel')
    stale = root / 'build/lib/mmsmt/stale.py'  # of an earlier version
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.touch()
    new_python(
        *('-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation'),
        *('-w', out, root),
    )
    (path,) = out.glob('mmsmt-*.whl')
    return path


def test_wheel_carries_configs_and_tools(wheel, root):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, carried in (('configs', 'configs/smt'), ('tools', 'tools')):
        for path in (root / folder).rglob('*.*'):
            if '__pycache__' not in path.parts and path.name not in (
                'setup_env.py',
                'benchmark.py',
            ):
                name = path.relative_to(root / folder)
                assert f'mmsmt/.mim/{carried}/{name}' in names
    assert 'mmsmt/weights/imagenet22k_to_1k.txt' in names
    assert 'mmsmt/report/page.html' in names
    assert not any('__pycache__' in name for name in names)
    assert 'mmsmt/stale.py' not in names
    assert not any(name.startswith('tests') for name in names)


def test_installing_changes_nothing_else(wheel):
    """No hard requirement; either stack is an extra."""
    (name,) = (
        n for n in zipfile.ZipFile(wheel).namelist() if n.endswith('METADATA')
    )
    metadata = zipfile.ZipFile(wheel).read(name).decode()
    extras = set(re.findall(r'^Provides-Extra: (.+)$', metadata, re.M))
    assert extras == {
        *('onedl', 'openmmlab', 'report', 'demo', 'dev'),
        *('export', 'export-dynamo', 'openvino', 'figures'),
    }
    for line in re.findall(r'^Requires-Dist: .+$', metadata, re.M):
        assert 'extra ==' in line, line


def test_installed_configs_have_names(wheel, python, tmp_path):
    """An installed mmsmt names its configs as the hosts name theirs."""
    site = tmp_path / 'site'
    zipfile.ZipFile(wheel).extractall(site)
    code = """
import mmsmt
from mmengine.config import Config
from mmengine.hub import get_config
assert 'site' in mmsmt.__file__, mmsmt.__file__
cfg = get_config('mmsmt::smt/mask_rcnn_smt_s_1x.py')
print(cfg.model.backbone.arch)
open('mine.py', 'w').write("_base_ = ['mmsmt::smt/mask_rcnn_smt_b_3x.py']")
print(Config.fromfile('mine.py').model.backbone.arch)
cfg = get_config('mmsmt::smt/upernet_smt_l_160k.py')  # over mmseg's bases
print(cfg.model.backbone.arch)
"""
    output = python('-c', code, cwd=tmp_path, PYTHONPATH=str(site)).stdout
    assert output.split()[-3:] == ['small', 'base', 'large']
    for name, option in (
        ('train', '--data-root'),
        ('rehearse', '--scale'),
        ('paper_tables', '--baselines'),
    ):
        tool = site / f'mmsmt/.mim/tools/{name}.py'
        help_text = python(tool, '--help', PYTHONPATH=str(site)).stdout
        assert option in help_text


@pytest.mark.parametrize('stack', ['onedl', 'openmmlab'])
def test_pins_agree_with_the_extras(root, stack):
    setup = (root / 'setup.py').read_text()
    pins = (root / 'requirements' / f'{stack}.txt').read_text()
    wanted = re.search(rf"'{stack}': \[(.*?)\]", setup, re.S)[1]
    for pin in re.findall(r"'(\S+==\S+)'", wanted):
        assert f'\n{pin}' in pins, pin
    without_cuda = runpy.run_path(str(root / 'tools/setup_env.py'))[
        'without_cuda'
    ]
    left = without_cuda(pins).splitlines()
    gone = set(pins.splitlines()) - set(left)
    assert len(gone) > 10 and all(
        re.match(r'(nvidia|cuda|triton)-?\w*', line) for line in gone
    )
    assert not any('nvidia' in line or 'triton' in line for line in left)


@pytest.mark.one_stack
def test_a_failed_set_up_leaves_the_former_environment(root, tmp_path):
    replaced = runpy.run_path(str(root / 'tools/setup_env.py'))['replaced']
    replaced.__wrapped__.__globals__['ROOT'] = tmp_path
    env = tmp_path / 'onedl'

    def make(content, error=None):
        with replaced(env):
            env.mkdir()
            (env / 'pyvenv.cfg').touch()
            (env / 'module.py').write_text(content)
            if error:
                raise error
            (env / 'ready').write_text('')

    make('1')
    for error in SystemExit('no network'), KeyboardInterrupt():
        with pytest.raises(type(error)):
            make('2', error)
        assert (env / 'module.py').read_text() == '1'
    make('3')
    assert (env / 'module.py').read_text() == '3'
    assert [path.name for path in tmp_path.iterdir()] == ['onedl']


@pytest.mark.parametrize('name', ['../mine', '/tmp', '.', '.git', 'a/b'])
def test_environments_are_under_venv(root, name):
    """Else the set-up would replace a folder of the user."""
    command = [sys.executable, root / 'tools/setup_env.py', '--env', name]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1
    assert 'is no name of a folder under .venv' in found.stderr + found.stdout


def test_folders_that_are_no_environments_stay(root, tmp_path):
    replaced = runpy.run_path(str(root / 'tools/setup_env.py'))['replaced']
    (tmp_path / 'mine.txt').touch()
    with pytest.raises(SystemExit), replaced(tmp_path):
        pass
    assert (tmp_path / 'mine.txt').exists()


def test_variables_of_the_shell_change_no_set_up(root):
    """SUSE's profile sets CPU, and sh reads ENV."""
    command = ['make', '-n', 'env', 'STACK=onedl']
    environ = dict(os.environ, CPU='x86_64', ENV='/root/.shrc', COMPILE='cc')
    environ.pop('MAKEFLAGS', None)  # of make test
    found = subprocess.run(
        command, cwd=root, env=environ, capture_output=True, text=True
    )
    assert '--env onedl' in found.stdout, found.stderr
    assert '--cpu' not in found.stdout and '--compile' not in found.stdout
