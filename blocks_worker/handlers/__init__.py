"""How a handler is found, loaded and called."""
