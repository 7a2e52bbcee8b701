"""The ``mmsmt`` command."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmsmt import cli

COMMAND = Path(sys.executable).with_name('mmsmt')
# Report what was imported when the command ends.
TRACED = """
import atexit, sys
atexit.register(lambda: print('torch imported:', 'torch' in sys.modules))
sys.argv = ['/usr/bin/mmsmt', *sys.argv[1:]]
from mmsmt.cli import main
main()
"""


def test_every_command_has_a_summary():
    assert cli.SUMMARIES.keys() == cli.COMMANDS.keys()


@pytest.mark.parametrize('command', cli.COMMANDS)
def test_help(command, capsys, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, '--help'])
    assert stop.value.code == 0
    assert f'usage: mmsmt {command}' in capsys.readouterr().out


@pytest.mark.one_stack
def test_help_imports_no_torch(new_python):
    output = new_python('-c', TRACED, '--help').stdout
    for name, summary in cli.SUMMARIES.items():
        assert name in output and summary in output
    assert 'torch imported: False' in output


def test_installed_command(root):
    result = subprocess.run([COMMAND, '--version'], capture_output=True)
    assert result.returncode == 0
    result = subprocess.run(
        [COMMAND, 'fly'], capture_output=True, text=True, cwd=root
    )
    assert result.returncode == 2 and "invalid choice: 'fly'" in result.stderr


def test_command_extends_mmengine(python, root, tmp_path):
    """As ``import mmsmt`` does, though the command imports it later."""
    result = python(
        *('-c', TRACED, 'test', 'configs/upernet_smt_t_160k.py', 'none.pth'),
        *('--work-dir', tmp_path),
        cwd=root,
        check=False,
    )
    assert "There is no checkpoint 'none.pth'" in result.stdout
    assert result.returncode == 1 and 'Traceback' not in result.stdout


@pytest.mark.one_stack
def test_command_in_a_broken_environment(new_python, tmp_path):
    """``doctor`` diagnoses it."""
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').write_text('from nowhere import x')
    result = new_python(
        '-c', TRACED, 'doctor', check=False, PYTHONPATH=str(tmp_path)
    )
    assert result.returncode == 1
    assert 'does not import' in result.stdout
    assert 'Traceback' not in result.stdout


def test_no_permission(monkeypatch):
    def refuse(args):
        raise PermissionError(13, 'Permission denied', '/data/runs/run.lock')

    module = SimpleNamespace(
        __doc__='', add_arguments=lambda parser: None, main=refuse
    )
    monkeypatch.setattr(cli, '_import_command', lambda command: module)
    with pytest.raises(SystemExit, match="'/data/runs/run.lock' may not be"):
        cli.run_command('train', [], None)


def test_former_names_warn():
    with pytest.warns(DeprecationWarning, match='mmsmt.data'):
        from mmsmt.datasets import digits  # noqa: F401
    with pytest.warns(DeprecationWarning, match='read_weights'):
        from mmsmt.checkpoints import read  # noqa: F401
