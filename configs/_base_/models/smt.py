# The SMTs of detection and segmentation: arch, drop path rate (Table 12; of
# SMT-T that of Table 11, of SMT-L that of SMT-B), released weights.
smt = {
    size: dict(
        arch=arch,
        drop_path_rate=rate,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/AFeng-x/SMT/releases/download/'
            f'v1.0.0/{weights}.pth',
        ),
    )
    for size, arch, rate, weights in (
        ('t', 'tiny', 0.1, 'smt_tiny'),
        ('s', 'small', 0.2, 'smt_small'),
        ('b', 'base', 0.3, 'smt_base'),
        ('l', 'large', 0.3, 'smt_large_22k'),
    )
}
smt['l']['layer_scale_init_value'] = 1e-4  # as its weights
