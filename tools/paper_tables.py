"""Compare measurements and runs with the paper's tables."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('tables')
