"""Dry-run a config end to end on a sample of its data, or on digits."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('rehearse')
