"""Growth of a long run is found."""

import pytest

from mmsmt.benchmark import soak
from mmsmt.benchmark.soak import Sample, summarize
from mmsmt.errors import UserError

pytestmark = pytest.mark.one_stack


def samples(growth):
    """A run whose memory grows by a share from 200 to 2000 iterations."""
    return [
        Sample(
            step,
            main=900 if step < 200 else 1000 * (1 + growth * step / 2000),
            workers=300,
            files=80 + (step % 200 == 0),
            processes=3,
        )
        for step in range(10, 2001, 10)
    ]


def test_flat_and_growing():
    assert [line.split()[-1] for line in summarize(samples(0))] == ['flat'] * 4
    main, *others = summarize(samples(0.05))
    assert main.startswith('main') and main.endswith('FAILED')
    assert all(line.endswith('flat') for line in others)


def test_too_short():
    with pytest.raises(UserError, match='more --iterations'):
        summarize(samples(0)[:30])


def test_what_a_soak_needs(tool_of, tmp_path, monkeypatch):
    """Before anything is written."""
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/mine.txt').touch()
    status, output = tool_of('soak', '--out', tmp_path)
    assert status == 1 and 'did not write; it is left alone' in output
    monkeypatch.setattr(soak, 'find_spec', lambda name: None)
    status, output = tool_of('soak', '--out', tmp_path / 'new')
    assert status == 1 and 'pip install psutil' in output
    assert not (tmp_path / 'new').exists()
