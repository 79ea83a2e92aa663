"""What a trained model believes to be in the scenes that are asked next."""

from __future__ import annotations

import json
import math
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import yaml

from swath.errors import InputError, RunError, SwathError
from swath.scenes.files import FileScenes
from swath.selection.labelling.children import Children

__all__ = ["Suggestions", "model_classes"]

AT_A_TIME: Final = 256
"""Scenes that are predicted at a time."""
SHOWN: Final = 5
"""Classes that are suggested for a scene, the most probable ones."""


def model_classes(run: Path) -> list[str]:
    """Return the classes of a run's model, without loading it.

    Raises:
        RunError: There is no run there.
    """
    try:
        card = json.loads((run / "model.json").read_text(encoding="utf-8"))
        return [str(name) for name in card["contract"]["classes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run} holds no trained model (model.json: {error}). Give the folder that `swath train --out` wrote."
        ) from error


class Suggestions:
    """Probabilities of the classes for the next scenes, predicted ahead in a process of their own.

    Args:
        source: The data set.
        classes: The classes that are labelled; others that a model knows are not suggested.
        children: Runs the prediction.
    """

    def __init__(self, source: FileScenes, classes: Sequence[str], children: Children) -> None:
        self._source, self._classes, self._children = source, classes, children
        self._run: Path | None = None
        self._found: dict[int, list[tuple[str, float]]] = {}
        self._busy = False
        self._lock = threading.Lock()
        self.message = ""

    def use(self, run: Path | None) -> None:
        """Suggest what a run's model believes; what another one believed is dropped."""
        with self._lock:
            if run != self._run:
                self._run, self._found, self.message = run, {}, ""

    @property
    def run(self) -> Path | None:
        """The run that suggests, or None."""
        return self._run

    def of(self, position: int) -> list[tuple[str, float]] | None:
        """Return the most probable classes of a scene, or None if that is not known (yet)."""
        with self._lock:
            return self._found.get(position)

    def look_ahead(self, coming: Callable[[int], Sequence[int]]) -> None:
        """Predict the coming scenes in the background, if few of them are predicted.

        Args:
            coming: Returns so many of the next scenes.
        """
        with self._lock:
            if self._run is None or self._busy or self.message:
                return
            missing = [position for position in coming(AT_A_TIME) if position not in self._found]
            near = [position for position in coming(AT_A_TIME // 4) if position not in self._found]
            if not near:
                return
            self._busy = True
            threading.Thread(target=self._predict, args=(self._run, missing), daemon=True).start()

    def _predict(self, run: Path, positions: Sequence[int]) -> None:
        found, message = {}, ""
        try:
            found = self._predicted(run, positions)
        except (SwathError, OSError, KeyError, ValueError) as error:
            message = f"There are no suggestions: {error}"
        with self._lock:
            self._busy = False
            if run == self._run:
                self._found |= found
                self.message = message

    def _predicted(self, run: Path, positions: Sequence[int]) -> dict[int, list[tuple[str, float]]]:
        import pandas as pd  # not before it is needed: the page is to be there at once

        with tempfile.TemporaryDirectory(prefix="swath-label-") as folder:
            config, out = Path(folder) / "predict.yaml", Path(folder) / "predicted.parquet"
            images = [str(self._source.image_path(position)) for position in positions]
            content = {"run": str(run), "images": images, "skip_unreadable": True, "out": str(out)}
            config.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
            self._children.run(["predict", "--config", str(config)], Path(folder) / "predict.log")
            table = pd.read_parquet(out)
        known = [name for name in self._classes if name in table.columns]
        if not known:
            raise InputError(
                f"the model knows none of the classes that are labelled: {', '.join(self._classes)}."
            )
        suggested = {}
        for position, row in zip(positions, table[known].to_numpy().tolist(), strict=True):
            ranked = sorted(zip(known, row, strict=True), key=lambda pair: -pair[1])
            suggested[position] = [
                (name, round(probability, 4)) for name, probability in ranked if not math.isnan(probability)
            ][:SHOWN]
        return suggested
