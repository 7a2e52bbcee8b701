"""Content of a large annotation file is parsed once."""

import json
import os

from pycocotools import coco

from mmsmt.runs import kept


def test_content_is_taken_once(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, 'LARGE', 0)
    path = tmp_path / 'a.json'
    content = dict(images=[], annotations=[], categories=[])
    path.write_text(json.dumps(content))
    with kept.keep_content():
        kept.KEPT.put(path, content)
        assert coco.COCO(str(path)).dataset is content
        assert coco.COCO(str(path)).dataset is not content
        kept.KEPT.put(path, content)
        path.write_text(json.dumps({**content, 'info': 'changed'}))
        os.utime(path, ns=(0, 0))
        assert coco.COCO(str(path)).dataset['info'] == 'changed'
        kept.drop_content()
        kept.KEPT.put(path, content)  # the run has begun
        assert kept.KEPT.content is None
    assert coco.json is json


def test_small_files_are_not_kept(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{}')
    with kept.keep_content():
        kept.KEPT.put(path, {})
        assert kept.KEPT.content is None
