"""A page about one run or several, in one file."""
