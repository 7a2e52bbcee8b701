"""Test a trained detector, segmenter or classifier."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('test')
