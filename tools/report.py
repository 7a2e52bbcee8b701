"""Write a page about a run, or several side by side."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('report')
