# Backbones for detection and segmentation: arch, drop path rate, released
# weights. Rates are from Table 12; SMT-T uses Table 11's, SMT-L that of SMT-B.
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
smt['l']['layer_scale_init_value'] = 1e-4  # as in its weights
