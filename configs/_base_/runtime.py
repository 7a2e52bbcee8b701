# In every config besides the host's runtime: SMT under its bare name too,
# whole checkpoints or an error, and a summary before the first iteration.
custom_imports = dict(imports=['mmsmt'])
custom_hooks = [
    dict(type='mmsmt.WholeCheckpointHook'),
    dict(type='mmsmt.SummaryHook'),
]
