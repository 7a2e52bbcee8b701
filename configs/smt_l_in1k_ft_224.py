# Table 2: 87.1. 8 GPUs x 128 images.
_base_ = ['_base_/imagenet_smt_ft.py']
