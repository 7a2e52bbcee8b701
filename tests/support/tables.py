"""Parts of the paper's tables, and logs of runs."""

import json

from mmsmt.analysis.paper import PARTS, Part


def part(title: str) -> Part:
    return next(p for p in PARTS if p.title.startswith(title))


def start(work_dir, name, lines, config='model = dict()'):
    """One start of a run, as mmengine leaves it."""
    folder = work_dir / name / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'config.py').write_text(config)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text)
    return folder / 'scalars.json'
