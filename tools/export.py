"""Write a trained model as ONNX, OpenVINO or torch.export, with a proof."""

from mmsmt.cli import run_tool

if __name__ == '__main__':
    run_tool('export')
