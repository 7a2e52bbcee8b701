"""Models as files of other runtimes, with a proof."""
