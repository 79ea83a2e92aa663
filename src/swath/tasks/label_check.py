"""Clean up instead: which labels of a data set look wrong, as a table and a gallery."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from swath.errors import InputError, LabelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from swath.encoders import SceneModel
    from swath.evaluation.suspicion import Suspicion
    from swath.labels import LabelTable
    from swath.scenes.contract import BandContract
    from swath.scenes.packed import PackedScenes
    from swath.scenes.source import SceneSource

__all__ = ["LabelCheck", "check_labels"]


@dataclass(frozen=True)
class LabelCheck:
    """What a check of labels found.

    Args:
        folder: Where ``suspicious.csv``, ``suspicious.html`` and ``check.json`` lie.
        table: One row for each suspicious label, the most suspicious first: ``row``, ``scene``, ``given``,
            ``suggested``, ``quality`` (probability of what was given) and ``probability`` (of what is suggested).
        checked: Number of known labels that were looked at.
    """

    folder: Path
    table: pd.DataFrame
    checked: int

    @property
    def gallery(self) -> Path:
        """The page with the pictures."""
        return self.folder / "suspicious.html"


def check_labels(
    data: str | os.PathLike[str] | SceneSource,
    *,
    out: str | os.PathLike[str],
    folds: int = 5,
    encoder: str = "small_resnet",
    size: int = 64,
    epochs: int = 15,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    weight_decay: float = 1e-2,
    seed: int = 0,
    pictures: int = 120,
    image_column: str | None = None,
    label_columns: str | None = None,
    complete: bool = False,
    images: str | None = None,
    nodata: float | None = None,
    skip_unreadable: bool = False,
) -> LabelCheck:
    """List the labels of a data set that look wrong: as a table, and as a gallery to look at.

    Each scene is judged by a small network that was trained on the other folds, so that no network has seen the label
    it judges; confident learning (the package cleanlab) then says which labels disagree too much. Unknown labels are
    never suspicious and never count as absent. Nothing is changed: look at the gallery and correct your table.

    Args:
        data: A folder of classes, a table, a zip, ``earth:...``, or an open source. Its labels have to be complete
            enough to learn from: every class known present in some scenes and known absent in others.
        out: Where the table, the gallery and ``check.json`` go.
        folds: Parts of the scenes; each is judged by a network trained on the others.
        encoder: ``small_resnet`` or any other; ``swath encoders`` lists them.
        size: Height and width in pixels to which images are resized.
        epochs: Passes over the scenes for each fold; few, because a network trained long learns wrong labels too.
        batch_size: Scenes in a step.
        learning_rate: Largest learning rate.
        weight_decay: Weight decay.
        seed: The one seed.
        pictures: Most pictures in the gallery; the table has all.
        image_column: Column of image paths in a table; if None, found by its usual names.
        label_columns: Comma-separated columns that hold labels; if None, all that are not something else.
        complete: Whether a class that a table's ``|`` list leaves out is absent; otherwise it is unknown.
        images: Folder that a table's paths are relative to; if None, the table's own.
        nodata: Number that marks pixels without data, instead of what the files say.
        skip_unreadable: Leave out images that cannot be read.

    Returns:
        Folder and table.

    Raises:
        InputError: An option is out of its range, or there are too few scenes.
        LabelError: The labels are too incomplete for a check.
        MissingExtraError: cleanlab is not installed.
    """
    given = locals()
    from swath.evaluation.suspicion import cleanlab_filter, suspicious_labels
    from swath.files import write_json, writing
    from swath.labels import is_known
    from swath.scenes.packing import pack
    from swath.tasks.prepare import open_source
    from swath.tasks.train import option_defaults

    if folds < 2 or pictures < 0:
        raise InputError(f"folds is {folds} and pictures {pictures}; expected 2 or more, and 0 or more.")
    cleanlab_filter()  # said before an hour of training, not after it
    options = {**option_defaults(), **{name: given[name] for name in option_defaults() if name in given}}
    source = open_source({**options, "data": data})
    store = pack(source, size, skip_unreadable=skip_unreadable)
    labels = source.labels.take(store.kept)
    _refuse_incomplete(labels, source.name)
    rows = is_known(labels.state).any(axis=1).nonzero()[0]
    groups = source.columns["group"][store.kept] if "group" in source.columns else None
    probability = _out_of_fold(store, labels, rows, groups, folds, options)
    found, left_out = suspicious_labels(labels.take(rows), probability)
    folder, names = Path(out), [source.describe(int(row)) for row in store.kept[rows]]
    table = _table(found, labels, names, store.kept[rows])
    with writing(folder / "suspicious.csv") as temporary:
        table.to_csv(temporary, index=False)
    agreement = _agreement(labels.take(rows), probability)
    checked = len(rows) if labels.exclusive else int(is_known(labels.state).sum())
    facts = {
        "data": source.name,
        "scenes": len(rows),
        "checked": checked,
        "suspicious": len(table),
        "folds": folds,
    }
    facts |= {"agreement": agreement, "encoder": encoder, "size": size, "epochs": epochs, "seed": seed}
    notes = [{"name": name, "reason": why} for name, why in left_out]
    write_json(folder / "check.json", {**facts, "left_out": notes})
    contract = _contract(store, labels, rows)
    _gallery(folder, facts, notes, table, found[:pictures], store, contract, rows)
    return LabelCheck(folder, table, checked)


def _refuse_incomplete(labels: LabelTable, name: str) -> None:
    from swath.labels import is_absent, is_present

    checkable = is_present(labels.state).any(axis=0) & is_absent(labels.state).any(axis=0)
    if not checkable.any():
        raise LabelError(
            f"No class of {name} is known to be present in some scenes and absent in others, so no label can be called "
            f"wrong. If what the table leaves out is absent, say so (--complete); if it is unknown, "
            f"`swath methods --for DATA` lists methods that learn from such labels."
        )


def _out_of_fold(
    store: PackedScenes,
    labels: LabelTable,
    rows: npt.NDArray[np.int64],
    groups: npt.NDArray[Any] | None,
    folds: int,
    options: Mapping[str, Any],
) -> npt.NDArray[np.float32]:
    """Return each scene's probabilities by a network that was trained on the other folds."""
    import numpy as np

    from swath.encoders import build_model
    from swath.methods import METHODS
    from swath.scenes.splits import split_rows
    from swath.training.loop import fit, make_accelerator
    from swath.training.predict import probabilities
    from swath.training.settings import Settings

    seed = options["seed"]
    names = ("epochs", "batch_size", "learning_rate", "weight_decay", "seed")
    settings = Settings(**{name: options[name] for name in names})
    known = labels.take(rows)
    parts = split_rows(
        known, [1 / folds] * (folds - 1), seed, groups=None if groups is None else groups[rows]
    ).parts
    found = np.zeros(known.state.shape, np.float32)
    for held_out in parts:
        rest = np.setdiff1d(np.arange(len(rows)), held_out)
        contract = _contract(store, labels, rows[rest])
        model = build_model(options["encoder"], contract, size=options["size"], seed=seed)
        # What is unknown has no gradient in either.
        method = METHODS["cross-entropy" if labels.exclusive else "all-known"]()

        def read(wanted: npt.NDArray[np.int64], contract: BandContract = contract) -> Any:
            return store.batch(wanted, contract)

        with tempfile.TemporaryDirectory() as folder:
            accelerator = make_accelerator("no")
            kept, _ = fit(
                model,
                method,
                read,
                rows[rest],
                known.take(rest),
                settings,
                Path(folder),
                accelerator=accelerator,
            )
        found[held_out] = probabilities(cast("SceneModel", kept), read, rows[held_out])
    return found


def _contract(store: PackedScenes, labels: LabelTable, rows: npt.NDArray[np.int64]) -> BandContract:
    from swath.scenes.statistics import statistics

    return store.contract.with_classes(labels.classes, labels.exclusive).with_statistics(
        *statistics(store, rows)
    )


def _agreement(labels: LabelTable, probability: npt.NDArray[np.float32]) -> float:
    """Return the share of the known labels that the networks would have given too."""
    from swath.labels import is_known, is_present

    if labels.exclusive:
        known = labels.class_index >= 0
        return float((probability.argmax(axis=1) == labels.class_index)[known].mean())
    known = is_known(labels.state)
    return float(((probability >= 0.5) == is_present(labels.state))[known].mean())


def _table(
    found: list[Suspicion], labels: LabelTable, names: list[str], numbers: npt.NDArray[np.int64]
) -> pd.DataFrame:
    import pandas as pd

    lines = []
    for suspicion in found:
        given, suggested = labels.classes[suspicion.label], labels.classes[suspicion.suggested]
        if not labels.exclusive:
            given, suggested = (given, f"not {given}") if suspicion.given else (f"not {given}", given)
        place = {"row": int(numbers[suspicion.row]), "scene": names[suspicion.row]}
        beliefs = {
            "quality": round(suspicion.quality, 4),
            "probability": round(suspicion.probability, 4),
        }
        lines.append({**place, "given": given, "suggested": suggested, **beliefs})
    return pd.DataFrame(lines, columns=["row", "scene", "given", "suggested", "quality", "probability"])


def _gallery(
    folder: Path,
    facts: Mapping[str, Any],
    notes: list[dict[str, str]],
    table: pd.DataFrame,
    found: list[Suspicion],
    store: PackedScenes,
    contract: BandContract,
    rows: npt.NDArray[np.int64],
) -> None:
    from swath.evaluation.report.gallery import jpeg
    from swath.evaluation.report.page import render
    from swath.files import write_text
    from swath.tasks.evidence import thumbnail

    cards = [
        {"source": jpeg(thumbnail(store, contract, int(rows[suspicion.row]))), **line}
        for line, suspicion in zip(table.to_dict("records"), found, strict=False)
    ]
    pairs = Counter(zip(table["given"], table["suggested"], strict=True))
    content = {
        "facts": facts,
        "left_out": notes,
        "cards": cards,
        "pairs": [(given, suggested, count) for (given, suggested), count in pairs.most_common(30)],
    }
    write_text(folder / "suspicious.html", render("label_check.html.j2", content))
