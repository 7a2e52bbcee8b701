# What every config has: the host's runtime, SMT under its bare name too, whole
# checkpoints or an error, and a summary before the first iteration.
__import__('mmsmt')  # before a base under mmseg:: is looked for
custom_imports = dict(imports=['mmsmt'])
custom_hooks = [
    dict(type='mmsmt.WholeCheckpointHook'),
    dict(type='mmsmt.SummaryHook'),
]
