"""Calls to the hub over HTTP."""
