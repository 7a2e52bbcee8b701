"""Predict without PyTorch.

python run_onnx.py model.onnx photo.jpg
"""

import json
import sys

import numpy as np
import onnxruntime


def read(path: str) -> np.ndarray:
    """Read (H, W, 3) uint8 pixels in RGB order; photos need Pillow."""
    if path.endswith('.npy'):
        return np.load(path)
    from PIL import Image, ImageOps

    photo = ImageOps.exif_transpose(Image.open(path))
    if photo.mode.startswith('I'):  # of 16 bits the upper 8, as in training
        photo = Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
    return np.asarray(photo.convert('RGB'))


session = onnxruntime.InferenceSession(sys.argv[1])
about = json.loads(session.get_modelmeta().custom_metadata_map['mmsmt'])
image = read(sys.argv[2])  # resize it first, as in the training
batch = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
values = session.run(None, {'images': batch})
found = {name: value[0] for name, value in zip(about['outputs'], values)}
if about['task'] == 'detection':
    for box, score, label in zip(*map(found.get, about['outputs'][:3])):
        if score >= 0.3:
            print(f'{about["classes"][label]} {score:.3f} {box.round(1)}')
elif about['task'] == 'segmentation':
    for label, count in zip(*np.unique(found['class_map'], return_counts=1)):
        print(f'{about["classes"][label]} {count} pixels')
else:
    for label in found['scores'].argsort()[::-1][:5]:
        print(f'{about["classes"][label]} {found["scores"][label]:.3f}')
