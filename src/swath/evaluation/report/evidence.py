"""What a report is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swath.errors import InputError

__all__ = ["DataFacts", "Evidence", "Thumbnails"]

States = npt.NDArray[np.int8]
Probabilities = npt.NDArray[np.floating[Any]]
Thumbnails = Callable[[Literal["train", "test"], int], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class DataFacts:
    """What there is to say about the scenes, for the report.

    Args:
        name: The data set, as a person would call it.
        scenes: Number of readable scenes.
        train: Number of training scenes.
        test: Number of test scenes.
        validation: Number of validation scenes, held back from training.
        image_size: Height and width in pixels that the model sees.
        bands: Band names.
        gsd_m: Ground sampling distance in metres, or None if nobody said.
        unreadable: (scene, reason) of each image that could not be read and was left out.
        crossing_duplicates: Groups of identical images that lie on both sides of the split, by name.
        split: How the test scenes were chosen.
        label_loss: How training labels were lost on purpose, or empty if they were used as they came.
    """

    name: str
    scenes: int
    train: int
    test: int
    validation: int = 0
    image_size: tuple[int, int] | None = None
    bands: Sequence[str] = ()
    gsd_m: float | None = None
    unreadable: Sequence[tuple[str, str]] = ()
    crossing_duplicates: Sequence[Sequence[str]] = ()
    split: str = ""
    label_loss: str = ""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that the report of a run shows.

    Args:
        title: Heading of the page.
        classes: Class names.
        exclusive: Whether the classes exclude each other.
        data: About the scenes.
        train_state: (training scenes, classes) label states as the method saw them.
        test_state: (test scenes, classes) label states.
        test_probability: (test scenes, classes) in [0, 1].
        evaluation: The content of ``evaluation.json``, from
            :func:`swath.evaluation.evaluate.evaluate_probability` on the test scenes.
        train_truth: (training scenes, classes) states before labels were lost, or None without such a truth.
        train_probability: (training scenes, classes) in [0, 1], or None if they were not computed.
        progress: One record for each epoch, as in ``progress.jsonl``.
        method: The method's ``name`` and what its ``report()`` says, such as ``calibrating_from``, the
            epoch of its trigger (marked in the curves).
        config: The options of the run.
        command: The command line that repeats the run.
        selection: How the weights that the run keeps were chosen, and whether that looked at clean labels.
        thumbnails: Returns the picture of a scene, (height, width, 3) uint8, for "train" or "test" and the
            row in the arrays above; None for a report without pictures of scenes.

    Raises:
        InputError: An array does not fit the classes or its neighbour.
    """

    title: str
    classes: Sequence[str]
    exclusive: bool
    data: DataFacts
    train_state: States
    test_state: States
    test_probability: Probabilities
    evaluation: Mapping[str, Any]
    train_truth: States | None = None
    train_probability: Probabilities | None = None
    progress: Sequence[Mapping[str, Any]] = ()
    method: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    selection: str = ""
    thumbnails: Thumbnails | None = None

    def __post_init__(self) -> None:
        """Check that the arrays fit each other."""
        train, test = len(self.train_state), len(self.test_state)
        for name, scenes in (
            ("train_state", train),
            ("train_truth", train),
            ("train_probability", train),
            ("test_state", test),
            ("test_probability", test),
        ):
            value = getattr(self, name)
            if value is not None and np.shape(value) != (scenes, len(self.classes)):
                raise InputError(
                    f"{name} of the evidence has shape {np.shape(value)}; expected ({scenes}, "
                    f"{len(self.classes)}): one row per scene, one column per class."
                )

    @property
    def threshold(self) -> float:
        """From which probability on a label counts as claimed (classes that exclude each other have none)."""
        value = self.evaluation.get("threshold")
        return 0.5 if value is None else float(value)
