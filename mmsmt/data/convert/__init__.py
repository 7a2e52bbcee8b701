"""Convert a folder of labelled images to what the hosts load."""
