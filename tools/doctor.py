"""Diagnose the environment."""

import sys

if __name__ == '__main__':
    # As the mmsmt command: torch and the hosts, which may not import, are not
    # imported with mmsmt.
    sys.argv[0] = 'mmsmt'
    from mmsmt.cli import run_tool

    run_tool('doctor')
