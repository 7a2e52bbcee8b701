"""Who serves mmcv.ops: in processes of their own, as imports differ."""

import sys

import pytest

from mmsmt.ops import finder, permanent

# Nothing is compiled and no finder installed, whatever this environment has.
NOT_COMPILED = """
import sys
sys.meta_path[:] = [
    f for f in sys.meta_path if type(f).__name__ != 'ExtensionFinder']
sys.modules.pop('_mmsmt_ops', None)
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(name, *args):
    return None if name == 'mmcv._ext' else find(name, *args)
PathFinder.find_spec = find_spec
"""
USE = (
    'import torch; from mmcv.ops import nms, get_compiler_version; '
    'box, score = torch.tensor([[0, 0, 2, 2.0]]), torch.tensor([1.0]); '
    'print(nms(box, score, 0.5)[1], get_compiler_version())'
)
SERVED = 'tensor([0]) none (torchvision'


@pytest.fixture
def hook(tmp_path, monkeypatch):
    """The permanent files in a folder, and how to have Python read it.

    Yields:
        Folder, and a line of code that reads its ``.pth`` files.
    """
    monkeypatch.setattr(permanent, '_folders', lambda: [tmp_path / 'site'])
    folder = permanent.turn_on()
    yield folder, f'import site; site.addsitedir({str(folder)!r})'
    assert len(permanent.turn_off()) == 2
    assert permanent.find_files() == [] and not list(folder.glob('*mmsmt*'))


def test_import_mmsmt_first(new_python):
    code = f'{NOT_COMPILED}\nimport mmsmt\n{USE}'
    assert SERVED in new_python('-c', code).stdout


@pytest.mark.one_stack
@pytest.mark.slow
def test_permanent(new_python, hook, tmp_path):
    """The hosts' own tools import no mmsmt; nor do their workers.

    Forked workers inherit the finder, spawned ones read the site's files.
    """
    _, read = hook
    script = tmp_path / 'load.py'
    script.write_text(f"""{NOT_COMPILED}
{read}
import multiprocessing
import torch

class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, i):
        from mmcv.ops import get_compiler_version
        return f'{{get_compiler_version()}} {{i}}'

if __name__ == '__main__':
    import mmcv.ops
    assert 'mmsmt' not in sys.modules
    {USE}
    for context in ('fork', 'spawn'):
        loader = torch.utils.data.DataLoader(
            Images(), num_workers=1, multiprocessing_context=context)
        print(context, list(loader))
""")
    output = new_python(script).stdout
    assert SERVED in output
    for context in ('fork', 'spawn'):
        assert f"{context} [['none (torchvision" in output


def write_extension(folder, content: str | bytes, suffix: str):
    """Put an extension module where mmcv looks for its own."""
    folder.mkdir()
    path = folder / f'_ext{suffix}'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    return f"""
import mmcv
mmcv.__path__[:] = [{str(folder)!r}, *mmcv.__path__]
"""


def test_compiled_one_is_kept(new_python, tmp_path):
    names = 'def get_compiler_version(): return "GCC"\n'
    names += 'def __getattr__(name): return lambda *args, **kwargs: name\n'
    look = write_extension(tmp_path / 'ext', names, '.py')
    code = f"""import mmsmt
{look}
from mmcv.ops import get_compiler_version
from mmsmt.ops import operators_in_use
print(get_compiler_version(), operators_in_use())
"""
    result = new_python('-c', code)
    assert 'GCC compiled' in result.stdout
    assert 'do not load' not in result.stdout


def test_compiled_one_that_does_not_load_is_replaced(new_python, tmp_path):
    from importlib.machinery import EXTENSION_SUFFIXES

    look = write_extension(
        tmp_path / 'ext', b'compiled for another torch', EXTENSION_SUFFIXES[0]
    )
    code = f"""import mmsmt
{look}
{USE}
from mmsmt.ops import operators_in_use
print(operators_in_use())
"""
    output = new_python('-c', code).stdout
    (line,) = (ln for ln in output.splitlines() if 'do not load' in ln)
    assert "mmcv's compiled operators do not load for this torch (" in line
    assert SERVED in output and output.split()[-1] == 'torchvision'


def test_install_twice():
    before = list(sys.meta_path)
    finder.install()
    assert sys.meta_path == before


def test_read_only_site(tmp_path, monkeypatch, capsys):
    """One error that names the folder."""
    blocked = tmp_path / 'file'
    blocked.write_text('')
    monkeypatch.setattr(permanent, '_folders', lambda: [blocked / 'site'])
    with pytest.raises(SystemExit) as stop:
        permanent.main([])
    assert 'Error: No folder of this Python can be written' in str(stop.value)
    assert str(blocked) in str(stop.value)


def test_command(tmp_path, monkeypatch, capsys):
    site = tmp_path / 'site'
    monkeypatch.setattr(permanent, '_folders', lambda: [site])
    for _ in range(2):
        permanent.main([])
        assert str(site) in capsys.readouterr().out
        assert len(permanent.find_files()) == 2
    permanent.main(['--undo'])
    assert capsys.readouterr().out.count('Removed ') == 2
    assert permanent.find_files() == []
