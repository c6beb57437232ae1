"""Outputs of tasks: stored and fetched, inline or by reference."""
