"""Dry-run a config end to end on synthetic data, before a long training.

The config keeps its model, losses, optimizer, pipelines, hooks and metric.
Its schedule is cut to a few epochs, with the steps at the corresponding
points; images are scaled, and the data are scenes of digits in the config's
own layout. Then the train and test commands run as usual: training is killed
and resumed, and the model is tested, also with augmentation.
"""
