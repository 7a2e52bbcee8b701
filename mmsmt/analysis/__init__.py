"""Costs of models, the paper's figures, and scores of finished runs.

:mod:`complexity` counts parameters and multiply-accumulates, :mod:`paper`
holds the paper's tables as data, :mod:`runs` reads work dirs, and
:mod:`tables` compares them (``mmsmt tables``).
"""
