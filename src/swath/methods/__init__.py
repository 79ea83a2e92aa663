"""Learning from labels: one file per method."""

from swath.methods.base import METHODS, Batch, Method, register_method

__all__ = ["METHODS", "Batch", "Method", "register_method"]
