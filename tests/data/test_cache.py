"""Results of checks are kept until something changes."""

import json
import os

import pytest
from PIL import Image
from support import shapes

from mmsmt.data import cache, check
from mmsmt.data.check import check_config
from mmsmt.data.convert.reading import read_folder
from mmsmt.data.convert.recipe import fit_recipe
from mmsmt.data.convert.splitting import split_pictures
from mmsmt.data.convert.writing import write_annotations

pytestmark = pytest.mark.one_stack


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A config's check, and the number of times that it really ran."""
    from mmengine.config import Config

    from mmsmt.data.convert.config import write_config

    monkeypatch.setattr(cache, 'FEWEST', 1)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    root, out = tmp_path / 'photos', tmp_path / 'out'
    root.mkdir()
    out.mkdir()
    collection = read_folder(shapes.write_coco(root, 12))
    split_pictures(collection)
    write_annotations(collection, root, out)
    recipe = fit_recipe(collection, 't')
    path = write_config(collection, recipe, root, out, 'mask_rcnn', 't')
    cfg = Config.fromfile(path)
    calls = []
    real = check.check_coco
    monkeypatch.setattr(
        check, 'check_coco', lambda *args: calls.append(1) or real(*args)
    )

    def run():
        calls.clear()
        findings, summaries = check_config(cfg)
        return len(calls), list(findings), summaries

    return run, cfg, root, out


def test_nothing_changed(runs):
    run, _, _, out = runs
    path = out / 'annotations' / 'train.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'][2] = 0.5  # a warning or an error
    path.write_text(json.dumps(content))
    first, second = run(), run()
    assert (first[0], second[0]) == (2, 0)
    assert first[1] and first[1] == second[1]
    for split, summary in first[2].items():
        other = second[2][split]
        assert summary.sizes == other.sizes
        for name in ('images', 'empty', 'objects', 'classes', 'paths'):
            assert getattr(summary, name) == getattr(other, name)


def touch(root, out):
    path = out / 'annotations' / 'val.json'
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


CHANGES = {
    'time of the annotations': (touch, 1),
    'an image is gone': (
        lambda root, out: (root / 'images/0.jpg').unlink(),
        2,
    ),
    'an image is another': (
        lambda root, out: Image.new('RGB', (9, 9)).save(root / 'images/1.jpg'),
        2,
    ),
}


@pytest.mark.parametrize('name', CHANGES)
def test_changes_are_seen(runs, name):
    run, _, root, out = runs
    run()
    change, again = CHANGES[name]
    change(root, out)
    count, findings, _ = run()
    assert count == again
    assert bool(findings) == name.startswith('an image')


def test_settings_are_a_part_of_the_key(runs):
    run, cfg, _, _ = runs
    run()
    cfg.train_dataloader.dataset.filter_cfg.min_size = 500
    count, findings, _ = run()
    assert count == 1 and findings


def test_a_damaged_or_closed_cache_is_none(runs, tmp_path):
    run, _, _, _ = runs
    run()
    for path in (tmp_path / 'cache').rglob('*.json'):
        path.write_text('{"a": ')
    assert run()[0] == 2
    folder = tmp_path / 'cache' / 'mmsmt' / 'checks'
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.touch()  # a file where the folder should be
    assert run()[0] == 2
