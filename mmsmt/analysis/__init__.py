"""What a model costs, what the paper prints, and what finished runs reached.

:mod:`complexity` counts parameters and multiply-accumulates, :mod:`paper` has
the paper's tables as data, :mod:`runs` reads work dirs.
``tools/paper_tables.py`` puts them side by side.
"""
