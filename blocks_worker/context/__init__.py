"""What a handler sees of its task."""
