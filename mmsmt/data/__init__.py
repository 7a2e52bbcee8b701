"""Datasets: checks, conversion of folders, and digits in their layouts."""
