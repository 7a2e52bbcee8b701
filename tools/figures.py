"""Draw the paper's figures of a model and your images."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('figures')
