"""Dry-run a config end to end on synthetic data, before it costs days.

The config keeps its model, losses, optimizer, pipelines, hooks and metric.
Its schedule is cut to a few epochs, with the steps at the corresponding
points; images are scaled, and the data are scenes of digits in the config's
own layout. Then the real commands train, are killed, resume, test and test
with augmentation.
"""
