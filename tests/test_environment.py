"""Environments that would break are named before they do."""

import pytest

from mmsmt import environment
from mmsmt.environment import STACKS, diagnose
from mmsmt.ops import operators_in_use

VERSIONS = {
    'onedl': {
        'torch': '2.12.1',
        'torchvision': '0.27.1',
        **dict.fromkeys(STACKS['onedl'].values(), '1'),
    },
    'openmmlab': {
        'torch': '2.1.2',
        'torchvision': '0.16.2',
        **dict.fromkeys(STACKS['openmmlab'].values(), '1'),
    },
}


def failing(**errors):
    """A probe for which some modules do not import."""
    return lambda module: errors.get(module.replace('.', '_'))


@pytest.mark.parametrize('stack', STACKS)
def test_whole_stacks_are_well(stack):
    assert diagnose(VERSIONS[stack], failing()) == []


@pytest.mark.parametrize('stack', STACKS)
def test_a_missing_host_matters_only_where_it_is_needed(stack):
    packages = dict(VERSIONS[stack])
    del packages[STACKS[stack]['mmseg']]
    assert diagnose(packages, failing()) == []
    (problem,) = diagnose(packages, failing(), needs=('mmseg',))
    assert problem.what == 'mmseg is not installed'


REFUSED = (
    'AssertionError: MMCV==2.3.6 is used but incompatible. Please install '
    'mmcv>=2.0.0rc4, <2.2.0.'
)
OPENMMLAB = VERSIONS['openmmlab']


@pytest.mark.parametrize(
    'packages, errors, what, cure',
    [
        (
            {**OPENMMLAB, 'onedl-mmcv': '2.3.6'},
            {},
            ('both stacks', 'onedl-mmcv 2.3.6', 'mmdet 1'),
            'pip uninstall -y onedl-mmcv mmengine mmcv',
        ),
        (
            {**OPENMMLAB, 'mmcv-lite': '2.1.0'},
            {},
            ('mmcv/ has two owners', 'mmcv 1 and mmcv-lite 2.1.0'),
            'pip uninstall -y mmcv mmcv-lite && pip install --no-deps '
            'mmcv-lite==2.1.0',
        ),
        (
            {**VERSIONS['onedl'], 'mmcv-lite': '2.1.0'},
            {},
            ('mmcv/ has two owners', 'onedl-mmcv 1 and mmcv-lite 2.1.0'),
            'pip install --no-deps onedl-mmcv==1',
        ),
        (
            {k: v for k, v in OPENMMLAB.items() if k != 'torchvision'},
            {},
            ('torchvision is not installed', "mmcv's operators"),
            'pip install torchvision=="0.16.*"',
        ),
        (
            OPENMMLAB,
            dict(mmcv="ModuleNotFoundError: No module named 'addict'"),
            ('mmcv 1 does not import', 'addict'),
            'tools/setup_env.py',
        ),
        (
            OPENMMLAB,
            dict(mmdet=REFUSED),
            ('mmdet 1 refuses mmcv 1', '<2.2.0'),
            'tools/setup_env.py',
        ),
        (
            {**OPENMMLAB, 'torchvision': '0.27.1'},
            {},
            ('torch 2.1.2 and torchvision 0.27.1',),
            'torchvision==0.16.*',
        ),
        (
            OPENMMLAB,
            dict(torchvision='RuntimeError: operator torchvision::nms'),
            ('torchvision 0.16.2 do not go together', 'torchvision::nms'),
            'torchvision',
        ),
        (  # mmpretrain imports names of its version 4
            {**OPENMMLAB, 'transformers': '5.24.0'},
            dict(mmpretrain_models='TypeError: NoneType takes no arguments'),
            ('mmpretrain 1 does not import', 'transformers 5.24.0'),
            "pip install 'transformers<5'",
        ),
        ({}, {}, ('torch is not installed',), 'tools/setup_env.py'),
        (
            {'torch': '2.1.2'},
            {},
            ('mmengine is not installed',),
            'tools/setup_env.py',
        ),
    ],
)
def test_broken_environments(packages, errors, what, cure):
    problem = diagnose(packages, failing(**errors))[0]
    for words in what:
        assert words in problem.what
    assert cure in problem.cure


def test_operators_that_load_and_do_not_work(monkeypatch):
    """As those compiled for a torch of another year."""

    def broken(*args):
        raise RuntimeError('nms_impl: implementation for device cuda:0 not')

    monkeypatch.setattr('mmcv.ops.nms', broken)
    (problem,) = diagnose(OPENMMLAB, failing())
    assert 'operators of mmcv 1 import but do not work with torch' in (
        problem.what
    )
    assert 'nms_impl' in problem.what
    assert 'pip uninstall -y mmcv,' in problem.cure


@pytest.mark.parametrize('cuda, lines', [('12.1', 0), ('not available', 1)])
def test_operators_of_a_machine_with_a_gpu(monkeypatch, cuda, lines):
    monkeypatch.setattr(environment, 'gpu_count', lambda: 1)
    monkeypatch.setattr('mmcv.ops.get_compiling_cuda_version', lambda: cuda)
    problems = diagnose(OPENMMLAB, failing())
    assert len(problems) == lines
    for problem in problems:
        assert 'the operators of mmcv 1 run on the CPU only' in problem.what
        assert 'need no nvcc' in problem.cure


def test_numpy_that_torch_cannot_use(monkeypatch):
    """As of torch 2.1 beside numpy 2."""
    import torch

    def refuse(array):
        raise RuntimeError('Numpy is not available')

    monkeypatch.setattr(torch, 'from_numpy', refuse)
    (problem,) = diagnose(OPENMMLAB, failing())
    assert 'cannot use numpy' in problem.what
    assert "'numpy<2'" in problem.cure


def test_configs_of_hosts_that_are_not_found(monkeypatch):
    """mmengine asks setuptools' pkg_resources, which 82 has not."""
    import mmengine.utils

    def refuse(name):
        raise ModuleNotFoundError("No module named 'pkg_resources'")

    monkeypatch.setattr(mmengine.utils, 'get_installed_path', refuse)
    (problem,) = diagnose(OPENMMLAB, failing())
    assert 'pkg_resources' in problem.what
    assert "'setuptools<70'" in problem.cure


def test_torch_that_does_not_load():
    """Is no mismatch with torchvision."""
    error = 'OSError: libcudart.so.13'
    (problem,) = diagnose(OPENMMLAB, failing(torch=error))
    assert problem.what.startswith('torch 2') and error in problem.what
    assert 'torchvision' not in problem.what


def test_check_is_one_error(monkeypatch):
    packages = {**OPENMMLAB, 'onedl-mmcv': '2.3.6'}
    monkeypatch.setattr(environment, 'installed', lambda: packages)
    with pytest.raises(environment.EnvironmentProblem) as error:
        environment.check()
    assert 'mmsegmentation 1' in str(error.value)
    assert 'python tools/doctor.py' in str(error.value)


def test_doctor_here(python, root):
    output = python(root / 'tools/doctor.py', cwd=root).stdout
    for words in ('torch', 'gpu', 'mmcv wheels', 'data/coco', 'All is well'):
        assert words in output
    assert 'operators    ' in output
    source = 'compiled' if operators_in_use() == 'compiled' else 'torchvision'
    assert f'{source} operators, SMT in' in output
    assert 'mmdet, mmseg, mmpretrain' in output


def fake_distribution(folder, name, version):
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Name: {name}\nVersion: {version}\n')


def test_doctor_sees_a_mixed_environment(python, root, tmp_path):
    other = 'mmcv' if 'onedl-mmcv' in environment.installed() else 'onedl-mmcv'
    fake_distribution(tmp_path, other, '9.9')
    for script, words in (
        (('tools/doctor.py',), 'WRONG'),
        (('tools/train.py', 'configs/mask_rcnn_smt_s_1x.py'), 'Error: '),
    ):
        result = python(
            *script, cwd=root, check=False, PYTHONPATH=str(tmp_path)
        )
        assert result.returncode == 1
        assert words in result.stdout
        assert f'{other} 9.9' in result.stdout
        assert 'pip uninstall -y' in result.stdout
        assert 'Traceback' not in result.stdout


# As if a package were not installed.
HIDE = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(name, *args):
    return None if name in ('{}',) else find(name, *args)
PathFinder.find_spec = find_spec
"""


@pytest.mark.one_stack
@pytest.mark.parametrize('missing', ['mmcv', 'torch'])
def test_import_without_the_core(new_python, missing):
    """Import without torch; SMT's error names the missing package."""
    code = f"""{HIDE.format(missing)}
import mmsmt
from mmsmt.data import digits
try:
    mmsmt.SMT
except ImportError as error:
    print(error)
"""
    output = new_python('-c', code).stdout
    assert f'mmsmt.SMT needs {missing}' in output


@pytest.mark.one_stack
def test_import_without_a_host(new_python):
    code = f"""{HIDE.format("', '".join(environment.HOSTS))}
import torch
from mmsmt import SMT
print([tuple(x.shape) for x in SMT('tiny', out_indices=(3,))(
    torch.rand(2, 3, 64, 64))])
"""
    assert '[(2, 512, 2, 2)]' in new_python('-c', code).stdout


@pytest.mark.one_stack
def test_broken_mmcv_is_named_on_import(new_python, tmp_path):
    """Not an import error from somewhere inside."""
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').write_text('from nowhere import x')
    result = new_python(
        '-c', 'import mmsmt', check=False, PYTHONPATH=str(tmp_path)
    )
    assert 'EnvironmentProblem: The installed packages' in result.stdout
    assert 'does not import' in result.stdout
