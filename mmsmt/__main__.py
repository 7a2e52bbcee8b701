"""Run the ``mmsmt`` command: ``python -m mmsmt``."""

from mmsmt.cli import main

if __name__ == '__main__':
    main()
