"""Calls, publish and subscribe over one WebSocket to a self-hosted hub."""
