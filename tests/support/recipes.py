"""Expected settings of the configs: ``tests/configs/recipes.txt``."""

from pathlib import Path
from typing import NamedTuple


class Recipe(NamedTuple):
    """A line of the table."""

    model: str
    arch: str
    params: float
    drop: float
    weights: str | None
    lr: float
    decay: float
    norms: bool
    clip: float | None
    length: int
    milestones: tuple[int, ...]
    data: str
    batch: int


def _parse(text: str, kind: object) -> object:
    if kind is bool:
        return dict(yes=True, no=False)[text]
    if kind == tuple[int, ...]:
        return tuple(map(int, text.split(','))) if text != '-' else ()
    if text == '-':
        return None
    if kind in (float, float | None):
        return float(text)
    return int(text) if kind is int else text


def _read() -> dict[str, Recipe]:
    path = Path(__file__).parents[1] / 'configs' / 'recipes.txt'
    lines = [ln for ln in path.read_text().splitlines() if ln[0] != '#']
    header, *rows = (line.split() for line in lines)
    assert header == ['config', *Recipe._fields]
    kinds = Recipe.__annotations__.values()
    return {
        name: Recipe(
            *(_parse(c, k) for c, k in zip(cells, kinds, strict=True))
        )
        for name, *cells in rows
    }


RECIPES = _read()
