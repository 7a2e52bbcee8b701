"""What a run needs so that nothing is lost: whole files, position, stop."""
