"""Publish and subscribe: one contract, one file a network."""
