"""Imports of the package go one way."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import mmsmt

PACKAGE = Path(mmsmt.__file__).parent
# Each part imports its own line and the lines above.
LAYERS = """
    errors version paths registry environment
    ops layers execution optim
    models
    weights
    names
    runs
    analysis data
    runtimes
    launch hooks tta layer_decay
    rehearsal deploy export figures report benchmark demo
    compare
    integration
    doctor cli __main__ checkpoints datasets
    __init__
"""
LEVEL = {
    part: level
    for level, line in enumerate(LAYERS.strip().splitlines())
    for part in line.split()
}
# Imported when called: from_released and the strict init_cfg reach weights.
UPWARDS = {('models.smt', 'weights')}
WITHOUT_HOSTS = ('models', 'layers', 'execution', 'weights')
HOSTS = ('mmdet', 'mmseg', 'mmpretrain')


def modules() -> dict[str, Path]:
    """Return the files of the package by module name, ``mmsmt.`` cut off."""
    return {
        '.'.join(path.relative_to(PACKAGE).with_suffix('').parts): path
        for path in PACKAGE.rglob('*.py')
        if '.mim' not in path.parts
    }


def imports(name: str, path: Path, at_once: bool = False) -> Iterator[str]:
    """Yield the absolute names that a module imports.

    Args:
        name: Of the module.
        path: Its file.
        at_once: Leave out what functions import.
    """
    tree = ast.parse(path.read_text())
    nodes = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ''
            if node.level:
                package = ['mmsmt', *name.split('.')][: -node.level]
                module = '.'.join([*package, *filter(None, [module])])
            yield from (f'{module}.{alias.name}' for alias in node.names)
        elif not (at_once and isinstance(node, ast.FunctionDef)):
            nodes += ast.iter_child_nodes(node)


def test_every_part_has_a_layer():
    assert {name.split('.')[0] for name in modules()} == set(LEVEL)


def test_imports_go_one_way():
    for name, path in modules().items():
        part = name.split('.')[0]
        for imported in imports(name, path):
            top, *rest = imported.split('.')
            if top in HOSTS:
                assert part not in WITHOUT_HOSTS, (name, imported)
            if top != 'mmsmt' or not rest or rest[0] not in LEVEL:
                continue
            if (name, rest[0]) in UPWARDS:
                continue
            assert LEVEL[rest[0]] <= LEVEL[part], (name, imported)


def test_no_import_circle():
    """Between modules, counting what is imported with them."""
    files = modules()
    graph = {}
    for name, path in files.items():
        found = graph.setdefault(name, set())
        for imported in imports(name, path, at_once=True):
            parts = imported.split('.')[1:]
            for end in (len(parts), len(parts) - 1):
                target = '.'.join(parts[:end])
                if not imported.startswith('mmsmt.') or not target:
                    continue
                if target in files:
                    found.add(target)
                    break
                if f'{target}.__init__' in files and end < len(parts):
                    found.add(f'{target}.__init__')
                    break
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_file_is_long():
    root = PACKAGE.parent
    for folder in ('mmsmt', 'tests', 'tools', 'configs'):
        for path in (root / folder).rglob('*.py'):
            lines = len(path.read_text().splitlines())
            limit = 60 if folder == 'tools' else 500
            if path.name != 'setup_env.py':
                assert lines <= limit, path
