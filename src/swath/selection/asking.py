"""Which scenes of a data set to have labelled next: from a trained network and what is labelled, to positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from swath.encoders import SceneModel
from swath.errors import InputError
from swath.labels import LabelTable, is_known, is_present
from swath.scenes.packing import pack
from swath.scenes.source import SceneSource
from swath.selection.query import query
from swath.selection.query_pool import QueryPool
from swath.training.predict import features, features_and_probabilities

__all__ = ["Question", "labelled_scenes", "next_scenes"]

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Question:
    """The scenes to ask about, in the order in which to ask.

    Args:
        rows: (n,) positions in the data set.
        probability: (n, classes) what the network believes of them, in the order of its classes, or None where there
            is no network with the classes of the data.
    """

    rows: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float32] | None = None


def labelled_scenes(labels: LabelTable) -> Mask:
    """Return which scenes need no question: those with a known class, or with any known label if there may be several.

    Args:
        labels: What is known.

    Returns:
        (scenes,) bool.

    Example:
        >>> labelled_scenes(LabelTable(("water", "forest"), np.array([[1, -1], [-1, -1], [-1, 0]]))).tolist()
        [True, False, True]
    """
    answered = is_present(labels.state) if labels.exclusive else is_known(labels.state)
    return np.asarray(answered.any(axis=1))


def next_scenes(
    model: SceneModel | None,
    source: SceneSource,
    labelled: Mask,
    budget: int,
    *,
    by: str = "hssal",
    seed: int = 0,
    among: Mask | None = None,
    untrained: bool = False,
    skip_unreadable: bool = False,
) -> Question:
    """Return which scenes of a data set to have labelled next.

    The labels of ``source`` are not looked at, only ``labelled``. The network's probabilities are used if its classes
    are those of the data; an encoder trained on other classes gives features only, which is enough for some strategies.

    Args:
        model: A trained network whose bands are those of the data; None is enough for ``random``.
        source: The data set.
        labelled: (scenes,) bool, which scenes are labelled already.
        budget: How many to ask for.
        by: A name in :data:`swath.selection.query.STRATEGIES`.
        seed: The one seed.
        among: (scenes,) bool, which scenes may be asked about or count as labelled; None means all, or the training
            scenes where the data has a ``split`` column. Other scenes, such as those of a test, choose nothing.
        untrained: The network's head has learned nothing yet, so its probabilities say nothing.
        skip_unreadable: Leave out images that cannot be read, instead of stopping.

    Returns:
        Positions in the data set, the first to ask first, and the network's probabilities.

    Raises:
        InputError: Masks do not fit the data, or the budget or the strategy does not fit the pool.
        ContractError: Bands or units of the data are not the network's.
        SceneError: An image cannot be read.

    Example:
        >>> from swath.scenes.open import open_scenes
        >>> source = open_scenes("earth:scenes=8,size=16")
        >>> sorted(next_scenes(None, source, np.arange(8) < 6, 2, by="random").rows.tolist())
        [6, 7]
    """
    for name, mask in (("labelled", labelled), ("among", among)):
        if mask is not None and (np.shape(mask) != (len(source),) or np.asarray(mask).dtype != np.bool_):
            raise InputError(
                f"{name} has shape {np.shape(mask)} and holds {np.asarray(mask).dtype}; expected one True or False for "
                f"each of the {len(source)} scenes of {source.name}."
            )
    inside = _training(source) if among is None else among
    if model is None:
        rows = np.flatnonzero(inside)
        return Question(rows[query(by, QueryPool(labelled[rows]), budget, seed=seed)])
    model.contract.check_fits(source.contract, what=source.name)
    store, contract = pack(source, model.size, skip_unreadable=skip_unreadable), model.contract
    own = np.flatnonzero(inside[store.kept])
    rows = store.kept[own]

    def read(some: npt.NDArray[np.int64]) -> Tensor:
        return store.batch(some, contract)

    probability = None
    if untrained or not _same_classes(model, source.labels):
        seen = features(model, read, own)
    else:
        seen, probability = features_and_probabilities(model, read, own)
    asked = query(by, QueryPool(labelled[rows], seen, probability, contract.exclusive), budget, seed=seed)
    return Question(rows[asked], None if probability is None else probability[asked])


def _training(source: SceneSource) -> Mask:
    if "split" not in source.columns:
        return np.ones(len(source), bool)
    return np.asarray(np.char.lower(np.asarray(source.columns["split"]).astype(str)) == "train")


def _same_classes(model: SceneModel, labels: LabelTable) -> bool:
    contract = model.contract
    return set(contract.classes) == set(labels.classes) and contract.exclusive == labels.exclusive
