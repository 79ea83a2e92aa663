"""How good a model is, as far as the labels can say: measures, intervals, calibration and the report."""

from swath.evaluation.evaluate import evaluate_probability
from swath.evaluation.metrics import average_precision

__all__ = ["average_precision", "evaluate_probability"]
