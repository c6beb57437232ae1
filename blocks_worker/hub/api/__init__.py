"""The hub's doors: one file a family of endpoints."""
