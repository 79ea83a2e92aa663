"""Base testers: the tests that every method and every encoder has to pass, also those of other packages.

They need pytest, which the rest of swath does not.
"""

from swath.testing.encoder import EncoderTester
from swath.testing.method import MethodTester

__all__ = ["EncoderTester", "MethodTester"]
