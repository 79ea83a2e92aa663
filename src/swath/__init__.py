"""swath: learn what is in satellite and aerial scenes from labels that are incomplete, noisy or few.

Names are loaded when they are used: ``import swath`` imports neither torch nor anything else that is slow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swath.encoders import build_model as build_model
    from swath.labels import LabelTable as LabelTable
    from swath.scenes import BandContract as BandContract
    from swath.scenes import open_scenes as open_scenes
    from swath.tasks.active import active_learning as active_learning
    from swath.tasks.ask import ask as ask
    from swath.tasks.compare import compare as compare
    from swath.tasks.evaluate import evaluate as evaluate
    from swath.tasks.map import map_scenes as map_scenes
    from swath.tasks.predict import predict as predict
    from swath.tasks.select import select as select
    from swath.tasks.train import train as train
    from swath.training.run import Run as Run
    from swath.training.run import load_run as load_run

_HOME = {
    "BandContract": "swath.scenes.contract",
    "LabelTable": "swath.labels",
    "Run": "swath.training.run",
    "active_learning": "swath.tasks.active",
    "ask": "swath.tasks.ask",
    "build_model": "swath.encoders",
    "compare": "swath.tasks.compare",
    "evaluate": "swath.tasks.evaluate",
    "load_run": "swath.training.run",
    "map_scenes": "swath.tasks.map",
    "open_scenes": "swath.scenes.open",
    "predict": "swath.tasks.predict",
    "select": "swath.tasks.select",
    "train": "swath.tasks.train",
}

__all__ = [
    "BandContract",
    "LabelTable",
    "Run",
    "__version__",
    "active_learning",
    "ask",
    "build_model",
    "compare",
    "evaluate",
    "load_run",
    "map_scenes",
    "open_scenes",
    "predict",
    "select",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("swath")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'swath' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
