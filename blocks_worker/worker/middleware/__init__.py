"""Features as hooks round one run, each in a file of its own."""
