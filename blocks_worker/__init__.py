"""Turn a plain Python function into a network service."""

__version__ = "0.1.0"

__all__ = ["__version__"]
