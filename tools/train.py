"""Train a detector, segmenter or classifier from a config."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('train')
