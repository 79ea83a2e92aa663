"""Learning from labels: one file per method."""

from swath.methods import adagc as _adagc
from swath.methods import all_known as _all_known
from swath.methods import assume_negative as _assume_negative
from swath.methods import cross_entropy as _cross_entropy
from swath.methods.base import METHODS, Batch, Method, register_method

__all__ = ["METHODS", "Batch", "Method", "register_method"]
