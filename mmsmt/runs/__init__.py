"""Save, stop and resume runs so that nothing is lost."""
