"""What is known about scenes, and how labels get lost or wrong. Knows no images."""

from swath.labels.states import ABSENT, PRESENT, UNKNOWN, is_absent, is_known, is_present, is_unknown
from swath.labels.table import LabelTable

__all__ = ["ABSENT", "PRESENT", "UNKNOWN", "LabelTable", "is_absent", "is_known", "is_present", "is_unknown"]
