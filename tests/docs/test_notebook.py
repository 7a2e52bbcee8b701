"""The notebook of the first ten minutes, executed."""

import json
import os

import pytest

nbclient = pytest.importorskip('nbclient')  # of the default stack
nbformat = pytest.importorskip('nbformat')


@pytest.mark.slow
@pytest.mark.one_stack
def test_notebook(root, fork, tmp_path, monkeypatch):
    """Every cell ends without an error, and the pictures are there."""
    notebook = nbformat.read(root / 'docs/first_ten_minutes.ipynb', 4)
    assert not any(cell.get('outputs') for cell in notebook.cells)
    (parameters,) = (
        cell
        for cell in notebook.cells
        if 'parameters' in cell.metadata.get('tags', ())
    )
    parameters.source = 'images, epochs = 16, 1'
    kernels = tmp_path / 'kernels/python3'
    kernels.mkdir(parents=True)
    argv = [fork, '-m', 'ipykernel_launcher', '-f']
    (kernels / 'kernel.json').write_text(
        json.dumps(
            dict(
                argv=[*argv, '{connection_file}'],
                display_name='Python 3',
                language='python',
            )
        )
    )
    monkeypatch.delenv('MMSMT_REPORT', raising=False)
    monkeypatch.setenv('JUPYTER_PATH', str(tmp_path))
    command = tmp_path / 'bin/mmsmt'
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {fork} -m mmsmt "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv('PATH', f'{command.parent}:{os.environ["PATH"]}')
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={'metadata': {'path': str(tmp_path)}}
    )
    client.execute()
    run = tmp_path / 'first_ten_minutes'
    assert (run / 'run/report.html').stat().st_size > 1e5
    assert (run / 'figures/cam.svg').exists()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get('outputs', ())
        if 'image/png' in output.get('data', {})
    ]
    assert len(pictures) == 5
