"""From a data set and a run's options to what is trained and judged: parts, labels, statistics."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from swath.errors import ContractError, InputError, LabelError, RunError, UnknownNameError
from swath.labels import LabelTable, is_known, is_present
from swath.labels.losing import lose, loss_record
from swath.scenes.contract import BandContract
from swath.scenes.duplicates import exact_duplicates
from swath.scenes.near_duplicates import joined_groups, near_duplicates
from swath.scenes.open import open_scenes
from swath.scenes.packed import PackedScenes
from swath.scenes.packing import pack
from swath.scenes.source import SceneSource
from swath.scenes.splits import block_groups, split_rows
from swath.scenes.statistics import statistics
from swath.selection.file import kept_rows
from swath.tasks.duplicates import read_groups
from swath.tasks.labelled import only_labelled, read_labelled
from swath.training.run import Run

__all__ = ["Prepared", "open_source", "prepare", "prepare_other", "prepare_run", "with_columns"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """Everything a training or an evaluation needs to know of its data.

    Args:
        source: The data set.
        store: Its images, packed.
        truth: What the data set says of every packed scene.
        parts: Rows of the store in ``train``, ``validation`` and ``test``.
        labels: What the method may know of the training scenes, in the order of ``parts["train"]``.
        contract: Bands with the statistics of the training scenes, and classes.
        notes: What was lost, skipped or found on the way, plain JSON values.
    """

    source: SceneSource
    store: PackedScenes
    truth: LabelTable
    parts: Mapping[str, Rows]
    labels: LabelTable
    contract: BandContract
    notes: Mapping[str, Any]

    def read(self, rows: Rows) -> Tensor:
        """Return normalised images of rows of the store."""
        return self.store.batch(rows, self.contract)

    def area(self, rows: Rows) -> npt.NDArray[np.float32] | None:
        """Return the classes' shares of the area of some scenes, where the source knows them."""
        return None if self.source.area is None else self.source.area[self.store.kept[rows]]


def prepare(options: Mapping[str, Any], data: SceneSource | None = None) -> Prepared:
    """Open, pack, split, lose labels and compute statistics, all decided by the options and the seed.

    Args:
        options: The options of :func:`swath.train`.
        data: The data set, if it is not named by the options.

    Returns:
        The data, ready.

    Raises:
        InputError: A part is empty.
        LabelError: Nothing is known of the training scenes.
    """
    source = open_source(options) if data is None else data
    store = pack(source, options["size"], skip_unreadable=options["skip_unreadable"])
    truth = with_columns(source.labels, source, options).take(store.kept)
    alike = _alike(options["near_duplicates"], source, store)
    parts, split = _parts(truth, source.columns, store.kept, options, alike)
    area = None if source.area is None else source.area[store.kept][parts["train"]]
    complete = labels = truth.take(parts["train"])
    ways: list[str] = []
    if options["labelled"]:
        table = read_labelled(options["labelled"], source)
        labels = only_labelled(labels, store.kept[parts["train"]], table, store.kept[parts["validation"]])
        ways.append(f"labels of {len(table)} scenes")
    if options["draw"]:
        labels = lose(labels, options["draw"], options["seed"], area=area)
        ways.append(options["draw"])
    chosen: dict[str, Any] = {}
    if options["only"]:
        # After labels are lost, so that a scene has the labels it had in the training that it was chosen by.
        wanted, chosen = kept_rows(options["only"], source, store)
        stays = np.isin(parts["train"], wanted)
        if not stays.any():
            raise InputError(
                f"None of the {len(wanted)} scenes that {options['only']} keeps is a training scene of {source.name}. "
                f"Select with the same --seed, --split-seed and --test-share, or from the run itself (--run)."
            )
        chosen["trained on"] = int(stays.sum())
        split += f"; trained on {stays.sum()} of {len(stays)} training scenes, those that {chosen['by']} kept"
        parts["train"] = parts["train"][stays]
        complete, labels = complete.take(stays), labels.take(stays)
    lost = loss_record(complete, labels, " + ".join(ways), options["seed"]) if ways else {}
    known = is_known(labels.state)
    if not known.any():
        raise LabelError(
            f"All labels of the {len(labels)} training scenes are unknown, so there is nothing to learn from. "
            f"Check the label columns of {source.name}."
        )
    mean, std = statistics(store, parts["train"])
    contract = store.contract.with_classes(truth.classes, truth.exclusive).with_statistics(mean, std)
    notes = {**_notes(store, parts, labels, lost, split), "only": chosen}
    return Prepared(source, store, truth, parts, labels, contract, notes)


def prepare_run(run: Run) -> Prepared:
    """Open a run's data again, with the parts and labels that the run recorded.

    Raises:
        RunError: The data is not what it was: scenes were added, removed or renamed.
    """
    options, contract = run.config, run.contract
    source = open_source(options)
    store = pack(source, options["size"], skip_unreadable=options["skip_unreadable"])
    recorded = run.scenes
    names = [source.describe(int(row)) for row in store.kept]
    if len(recorded) != len(names) or list(recorded["scene"]) != names:
        raise RunError(
            f"{options['data']} does not hold the scenes that {run.folder} was trained on: {len(recorded)} then, "
            f"{len(names)} now, or other names. Restore the data, or evaluate on it as other data: "
            f"swath evaluate {run.folder} {options['data']}"
        )
    truth = _same_classes(source.labels.take(store.kept), contract, source.name)
    part = recorded["part"].to_numpy()
    parts = {name: np.flatnonzero(part == name) for name in ("train", "validation", "test")}
    given = recorded[[f"label:{name}" for name in contract.classes]].to_numpy(np.int8)
    labels = truth.take(parts["train"]).with_state(given[parts["train"]])
    return Prepared(
        source,
        store,
        truth,
        parts,
        labels,
        contract,
        _notes(store, parts, labels, run.card["lost"], run.card["split"]),
    )


def prepare_other(
    run: Run, data: str | os.PathLike[str] | SceneSource, *, skip_unreadable: bool = False
) -> Prepared:
    """Open other data to judge a run on; all of it is test, or its ``test`` part if it has a ``split`` column.

    Raises:
        ContractError: Bands, units or classes differ from the model's.
    """
    source = open_source({**run.config, "data": data})
    contract = run.contract
    contract.check_fits(source.contract, what=source.name)
    store = pack(source, run.config["size"], skip_unreadable=skip_unreadable)
    truth = _same_classes(source.labels.take(store.kept), contract, source.name)
    split = source.columns.get("split")
    test = np.arange(len(store)) if split is None else np.flatnonzero(np.asarray(split)[store.kept] == "test")
    none = np.zeros(0, np.int64)
    if not len(test):
        raise InputError(f"{source.name} has a `split` column but no scene whose split is test.")
    parts = {"train": none, "validation": none, "test": test}
    labels = truth.take(none)
    return Prepared(
        source, store, truth, parts, labels, contract, _notes(store, parts, labels, {}, "other data")
    )


def open_source(options: Mapping[str, Any]) -> SceneSource:
    """Open the data set that the options of :func:`swath.train` name; one that is open already is returned."""
    data, columns = options["data"], options["label_columns"]
    if isinstance(data, SceneSource):
        return data
    return open_scenes(
        os.fspath(data),
        image_column=options["image_column"],
        label_columns=None if columns is None else [name.strip() for name in columns.split(",")],
        complete=options["complete"],
        images=options["images"],
        nodata=options["nodata"],
    )


def with_columns(labels: LabelTable, source: SceneSource, options: Mapping[str, Any]) -> LabelTable:
    """Return the labels with each scene's domain and context as numbers, where the data has them.

    Args:
        labels: Of all scenes of the source.
        source: The data set.
        options: ``domain_column`` and ``context_column`` as in :func:`swath.train`.

    Raises:
        UnknownNameError: A named column is not there.
    """
    columns = dict(labels.columns)
    for name in ("domain", "context"):
        column = options[f"{name}_column"]
        if column is not None and column not in source.columns:
            raise UnknownNameError(f"column of {source.name}", column, source.columns)
        if (column or name) in source.columns:
            values = np.asarray(source.columns[column or name]).astype(str)
            columns[name] = np.unique(values, return_inverse=True)[1]
    return dataclasses.replace(labels, columns=columns)


def _same_classes(labels: LabelTable, contract: BandContract, name: str) -> LabelTable:
    """Return the labels with their classes in the model's order."""
    missing = [other for other in contract.classes if other not in labels.classes]
    strange = [other for other in labels.classes if other not in contract.classes]
    if missing or strange or labels.exclusive != contract.exclusive:
        raise ContractError(
            f"{name} does not have the model's classes. Missing: {', '.join(missing) or 'none'}. Not known to the "
            f"model: {', '.join(strange) or 'none'}. The model's: {', '.join(contract.classes)} "
            f"({'one a scene' if contract.exclusive else 'several a scene'})."
        )
    order = [labels.classes.index(other) for other in contract.classes]
    return LabelTable(contract.classes, labels.state[:, order], exclusive=contract.exclusive)


def _notes(
    store: PackedScenes, parts: Mapping[str, Rows], labels: LabelTable, lost: Mapping[str, Any], split: str
) -> dict[str, Any]:
    positive = is_present(labels.state).any(axis=0).tolist()
    return {
        "lost": dict(lost),
        "split": split,
        "unreadable": [{"name": scene.name, "reason": scene.reason} for scene in store.unreadable],
        "image_sizes": store.image_sizes,
        "classes_without_positive": [
            name for name, any_ in zip(labels.classes, positive, strict=True) if not any_ and len(labels)
        ],
        "duplicates": [
            [int(row) for row in group] for group in exact_duplicates(store, list(parts.values()))
        ],
    }


def _parts(
    truth: LabelTable,
    columns: Mapping[str, npt.NDArray[Any]],
    kept: Rows,
    options: Mapping[str, Any],
    alike: Sequence[Rows],
) -> tuple[dict[str, Rows], str]:
    """Return rows of the store in each part, and how the test scenes were chosen, in words.

    Scenes that show nearly the same (``alike``) stay on one side; where a column decides, the training scenes go.
    """
    none = np.zeros(0, np.int64)
    parts = {"train": np.arange(len(kept)), "validation": none, "test": none}
    said = "the data's `split` column"
    if "split" in columns:
        parts = _named_parts(columns["split"][kept])
    groups = _groups(columns, kept, options["block_size"])
    if alike:
        groups = joined_groups(len(kept), alike, groups)
    seed = options["seed"] if options["split_seed"] is None else options["split_seed"]
    for name in ("test", "validation"):
        share, rows = options[f"{name}_share"], parts["train"]
        if len(parts[name]) or not share or not len(rows):
            continue
        split = split_rows(truth.take(rows), share, seed, groups=None if groups is None else groups[rows])
        parts |= {"train": rows[split.parts[0]], name: rows[split.parts[1]]}
        if name == "test":
            whole = "" if groups is None else ", groups or blocks kept whole"
            said = f"{share:g} of the scenes, stratified, seed {seed}{whole}"
    if alike and groups is not None:
        before = len(parts["train"])
        elsewhere = groups[np.concatenate([parts["validation"], parts["test"]])]
        parts["train"] = parts["train"][~np.isin(groups[parts["train"]], elsewhere)]
        left_out = before - len(parts["train"])
        said += f"; {len(alike)} groups of near-duplicates kept apart"
        said += f", {left_out} training scenes left out" if left_out else ""
    for name in ("train", "test"):
        if not len(parts[name]):
            raise InputError(
                f"The {name} part is empty. Of {len(truth)} scenes "
                + ", ".join(f"{len(rows)} are in {part}" for part, rows in parts.items())
                + ". Check the `split` column, or --test-share."
            )
    return parts, said


def _alike(how: str, source: SceneSource, store: PackedScenes) -> list[Rows]:
    if how == "ignore":
        return []
    return near_duplicates(store) if how == "apart" else read_groups(how, source, store)


def _named_parts(split: npt.NDArray[Any]) -> dict[str, Rows]:
    names = np.char.lower(split.astype(str))
    strange = sorted(set(names.tolist()) - {"train", "validation", "val", "test", ""})
    if strange:
        raise InputError(
            f"The `split` column holds {', '.join(map(repr, strange[:5]))}; expected train, validation (or val) and "
            f"test; scenes with an empty cell are left out."
        )
    return {
        "train": np.flatnonzero(names == "train"),
        "validation": np.flatnonzero((names == "validation") | (names == "val")),
        "test": np.flatnonzero(names == "test"),
    }


def _groups(
    columns: Mapping[str, npt.NDArray[Any]], kept: Rows, block_size: float | None
) -> npt.NDArray[Any] | None:
    # Coordinates are asked for only when they are needed: a source may have to open every file for them.
    if block_size is None:
        return columns["group"][kept] if "group" in columns else None
    if "group" in columns or "x" not in columns or "y" not in columns:
        why = "has groups of its own" if "group" in columns else "has no coordinates (columns x and y)"
        raise InputError(f"block_size was given, but the data {why}. Leave block_size out.")
    return block_groups(columns["x"][kept], columns["y"][kept], block_size)
