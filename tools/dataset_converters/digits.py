"""Write digits in the layout of COCO, ADE20K or ImageNet."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('digits')
