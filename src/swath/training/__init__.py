"""The loop, its settings and checkpoints, and the run it leaves."""

from swath.training.loop import fit
from swath.training.run import Run, load_run
from swath.training.settings import Settings

__all__ = ["Run", "Settings", "fit", "load_run"]
