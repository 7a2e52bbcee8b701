# COCO 2017 with masks at 1333 x 800.
_base_ = ['mmdet::_base_/datasets/coco_instance.py', 'coco_tta.py']
