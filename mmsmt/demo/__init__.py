"""A detector trained on handwritten digits in minutes."""
