"""Dry-run a config end to end on synthetic data."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('rehearse')
