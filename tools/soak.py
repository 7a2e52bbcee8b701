"""Measure memory and open files of a long training run."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('soak')
