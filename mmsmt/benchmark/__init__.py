"""Time and memory of backbones, side by side, on this machine."""
