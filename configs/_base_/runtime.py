# Add to the host's runtime in every config: register SMT under its bare name,
# reject incomplete checkpoints, log a summary before the first iteration.
custom_imports = dict(imports=['mmsmt'])
custom_hooks = [
    dict(type='mmsmt.WholeCheckpointHook'),
    dict(type='mmsmt.SummaryHook'),
]
