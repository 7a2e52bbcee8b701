"""Compare backbones in one model, trained from scratch alike."""
