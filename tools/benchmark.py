"""Measure time and memory of backbones."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('benchmark')
