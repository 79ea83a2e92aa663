"""What is known about scenes, and how labels get lost or wrong. Knows no images."""

from swath.labels.losing import flip_classes, lose, loss_record
from swath.labels.states import ABSENT, PRESENT, UNKNOWN, is_absent, is_known, is_present, is_unknown
from swath.labels.table import LabelTable

__all__ = [
    "ABSENT",
    "PRESENT",
    "UNKNOWN",
    "LabelTable",
    "flip_classes",
    "is_absent",
    "is_known",
    "is_present",
    "is_unknown",
    "lose",
    "loss_record",
]
