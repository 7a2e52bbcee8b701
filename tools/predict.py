"""Predict on images, videos or a camera with a trained model."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('predict')
