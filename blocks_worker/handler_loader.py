"""The import path by which users know the handler registry's functions."""

from blocks_worker.handlers.loader import load_handler_function
from blocks_worker.handlers.registry import find_handler_entry, get_available_handlers, load_registry

__all__ = ["find_handler_entry", "get_available_handlers", "load_handler_function", "load_registry"]
