"""Known errors of a run, and their fixes."""

CURES = (
    (
        'out of memory',
        '--cfg-options model.backbone.with_cp=True, a smaller batch, or a '
        'GPU with more memory',
    ),
    (
        'index k out of range',
        'the images are too small for the number of queries: a higher --scale',
    ),
    (
        'Expected more than 1 value per channel',
        'batch norm needs a batch of at least two',
    ),
    ('No space left', 'free space under the work dir'),
    ('is out of bounds', 'num_classes of every head: that of the data'),
    (
        'smaller than num_classes',
        'num_classes of every head: that of the data',
    ),
    ('device-side assert', 'num_classes of every head: that of the data'),
    ('shared memory', 'fewer num_workers, or a larger /dev/shm'),
    ('is not in the', 'name the module that registers it in custom_imports'),
    ('the loss is', 'a lower learning rate; bf16 instead of fp16'),
)


def find_cure(log: str) -> str:
    """Return the fix for an error in a log, or '' if it is unknown."""
    return next((c for sign, c in CURES if sign.lower() in log.lower()), '')
