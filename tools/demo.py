"""Train Mask R-CNN with SMT-T on handwritten digits."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('demo')
