"""Ordered data between a run and its consumers, beside the task's events: written, acknowledged, repaired."""
