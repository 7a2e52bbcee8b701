"""Datasets: the files that a config names, and digits in their layouts."""
