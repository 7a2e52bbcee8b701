"""Large datasets are read in several processes."""

import json
import os

import pytest
from support.coco_files import errors, make_config, write_files

from mmsmt.data import parallel
from mmsmt.data.check import check_config


@pytest.fixture(autouse=True)
def large(monkeypatch) -> None:
    """Take any dataset for a large one, on a machine of three cores."""
    monkeypatch.setattr(parallel, 'FEW', 2)
    monkeypatch.setattr(parallel, 'count_cores', lambda: 3)


def test_same_findings_and_contents(tmp_path, monkeypatch):
    shapes = write_files(tmp_path)
    annotations = shapes / 'train.json'
    content = json.loads(annotations.read_text())
    names = [image['file_name'] for image in content['images']]
    content['images'][0]['width'] += 1
    (shapes / 'train' / names[1]).write_bytes(b'')
    (shapes / 'train' / names[2]).unlink()
    annotations.write_text(json.dumps(content))
    looks = []
    for setting in (True, False):
        if not setting:
            monkeypatch.setattr(parallel, 'FEW', 2000)
        findings, summaries = check_config(make_config(shapes))
        looks.append(([str(finding) for finding in findings], summaries))
    assert looks[0] == looks[1]
    text = errors(make_config(shapes))
    for words in ('another size', 'empty files', 'images are missing'):
        assert words in text


def test_ahead_of_a_killed_process_and_of_others():
    ahead = parallel.Ahead(_kill_at, range(9))
    found = ahead.collect(range(9), 'Numbers')
    assert found == {0: 0, 2: 2, 4: 4, 6: 6, 8: 8}  # those of the other one
    ahead = parallel.Ahead(_kill_at, range(9))
    assert ahead.collect([0, 2], 'Numbers') == {} and not ahead.parts


def _kill_at(number: int) -> int:
    if number == 5:
        os._exit(9)
    return number
