# Shard parameters, gradients and optimizer state over the GPUs (FSDP). Add it
# to a config's bases: _base_ = ['mask_rcnn_smt_l_3x.py', '_base_/fsdp.py'].
runner_type = 'FlexibleRunner'
strategy = dict(type='mmsmt.FSDPStrategy')
