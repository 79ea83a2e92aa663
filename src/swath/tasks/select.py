"""Which scenes to train on: choose some of a data set's training scenes, and say what was lost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swath.errors import InputError, RunError, UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from swath.scenes.source import SceneSource
    from swath.selection.file import Selection
    from swath.selection.pool import Pool
    from swath.tasks.prepare import Prepared
    from swath.training.run import Run

__all__ = ["Selected", "select"]


@dataclass(frozen=True)
class Selected:
    """What a selection came to.

    Args:
        path: The Parquet file, for ``swath train --only``.
        report: The page beside it.
        selection: Its content; ``selection.table`` has one row for each scene of the pool.
    """

    path: Path
    report: Path
    selection: Selection

    def __str__(self) -> str:
        """Return what was kept, stage by stage, and where the files are."""
        table = self.selection.table
        stages = table.groupby("stage")["kept"].agg(["sum", "size"]).sort_values("size", ascending=False)
        lines = [
            f"{int(table['kept'].sum()):,} of {len(table):,} scenes kept by {self.selection.notes['by']}"
        ]
        lines += [f"  {stage}: {int(kept):,} of {size:,} kept" for stage, (kept, size) in stages.iterrows()]
        if "contradicted" in self.selection.notes:
            share = self.selection.notes["contradicted"]
            lines.append(
                f"hard, or wrongly labelled: {share['kept']:.1%} of what is kept, {share['pool']:.1%} of all "
                f"(the label was contradicted to the end of the training)"
            )
        return "\n".join([*lines, f"selection: {self.path}", f"report: {self.report}"])


def select(
    data: str | os.PathLike[str] | SceneSource | None = None,
    *,
    keep: str | float | int,
    by: str = "rs-prune",
    out: str | os.PathLike[str] = "selection.parquet",
    run: str | os.PathLike[str] | None = None,
    features: str | os.PathLike[str] | None = None,
    strata: str | None = None,
    by_options: dict[str, Any] | None = None,
    ray: str | None = None,
    seed: int = 0,
    split_seed: int | None = None,
    draw: str | None = None,
    test_share: float = 0.2,
    block_size: float | None = None,
    near_duplicates: str = "ignore",
    validation_share: float = 0.0,
    size: int = 64,
    image_column: str | None = None,
    label_columns: str | None = None,
    domain_column: str | None = None,
    context_column: str | None = None,
    complete: bool = False,
    images: str | None = None,
    nodata: float | None = None,
    skip_unreadable: bool = False,
) -> Selected:
    """Choose which training scenes to keep; writes a selection for ``swath train --only`` and a report of what is lost.

    Test and validation scenes are never looked at: the pool is the training part of the split that ``swath train``
    makes with the same options and seed. With a run of the same data it is that run's training part.

    Args:
        data: A folder of classes, a table, a zip, ``earth:...``, an open source, or a ``.npy`` matrix of features
            alone. May be left out with a run: its data.
        keep: How many: ``15%``, a share such as ``0.15``, or a whole number.
        by: ``random``, ``balanced``, ``rs-prune``, ``k-centre``, ``herding``, ``moderate``, ``strata``, ``tdds``,
            ``el2n``, ``forgetting``, ``entropy``, ``aum``, or ``ccs:SCORE`` with one of the last five.
        out: The selection, a Parquet file; the report goes beside it. An older one is replaced.
        run: A trained run: its encoder gives the features, and its training dynamics if it recorded any.
        features: A ``.npy`` matrix (float16 or float32) instead, one row for each scene of the data, in its order.
        strata: For ``strata``: comma-separated ``class``, columns of the table, and GeoTIFFs looked up at the scenes'
            coordinates.
        by_options: Constants of the selector, by name.
        ray: ``HOST:PORT`` of a Ray cluster that computes features and entropy, shard by shard, or ``auto`` for the one
            this machine belongs to; packed scenes and run must lie where all its machines find them.
        seed: Seed of the selection, and of the split where no run has made one.
        split_seed: Seed of the split alone; if None, ``seed``.
        draw: How to lose labels, as in the training that is to follow.
        test_share: Share of the scenes for the test, if there is no ``split`` column.
        block_size: Edge of square blocks of ground, in CRS units, that stay on one side of the split.
        near_duplicates: ``apart`` keeps scenes that show nearly the same on one side of the split; so does a file that
            ``swath duplicates`` wrote, with the groups it lists.
        validation_share: Share of the training scenes held back for validation.
        size: Height and width in pixels to which images are resized.
        image_column: Column of image paths in a table; if None, found by its usual names.
        label_columns: Comma-separated columns that hold labels; if None, all that are not something else.
        domain_column: Column that says which sensor, season or city a scene is from.
        context_column: Column with each scene's own class, beside the labels of what is in it.
        complete: Whether a class that a table's ``|`` list leaves out is absent; otherwise it is unknown.
        images: Folder that a table's paths are relative to; if None, the table's own.
        nodata: Number that marks pixels without data, instead of what the files say.
        skip_unreadable: Leave out images that cannot be read.

    Returns:
        The selection, and where it is.

    Raises:
        InputError: The budget, an option or the features are not usable, or the selector lacks what it needs.
        UnknownNameError: There is no such selector.
        RunError: The run or its dynamics cannot be read.
        SwathError: The cluster cannot do its part.

    Example:
        >>> import tempfile
        >>> chosen = select("earth:scenes=40,size=16", keep="25%", by="balanced", out=tempfile.mkdtemp() + "/s.parquet")
        >>> len(chosen.selection.kept), chosen.report.name
        (8, 's.html')
    """
    given = {name: value for name, value in locals().items() if name not in ("data", "run")}
    from swath.selection.file import images_identity, scene_names, write_selection
    from swath.selection.scores import contradicted
    from swath.selection.selectors import SELECTORS, choose
    from swath.selection.shares import kept_of
    from swath.tasks.select_report import write_selection_report

    if by not in SELECTORS:
        raise UnknownNameError("selector", by, SELECTORS)
    if isinstance(data, str | os.PathLike) and os.fspath(data).endswith(".npy"):
        if ray is not None:
            raise InputError(f"--ray was given, and {data} holds features already. Leave it out.")
        pool, index, names = _of_features(Path(data), by)
        count = kept_of(keep, pool.size)
        prepared, identity = None, _file_identity(Path(data))
    else:
        _refuse_needless(by, given, run)
        prepared, encoder, own = _prepared(data, given, run)
        rows = prepared.parts["train"]
        count = kept_of(keep, len(rows))  # before features are computed
        pool = _pool(prepared, given, encoder, own)
        index = prepared.store.kept[rows]
        names = scene_names(prepared.source, index)
        identity = images_identity(prepared.store, rows)
    choice = choose(by, pool, count, seed, by_options)
    options = {
        **SELECTORS[by].options,
        **(by_options or {}),
        **({"strata": strata} if by == "strata" else {}),
    }
    notes = {
        "by": by,
        "options": options,
        "keep": str(keep),
        "seed": seed,
        "pool": pool.size,
        "kept": count,
        "data": str(data) if prepared is None else prepared.source.name,
        "run": None if run is None else os.fspath(run),
        "images": identity,
        **choice.notes,
    }
    if pool.dynamics is not None:
        found = contradicted(pool.dynamics)
        notes["contradicted"] = {"kept": float(found[choice.kept].mean()), "pool": float(found.mean())}
    selection = write_selection(out, choice, index, names, notes)
    report = write_selection_report(Path(out).with_suffix(".html"), selection, pool, prepared)
    return Selected(Path(out), report, selection)


def _refuse_needless(by: str, given: Mapping[str, Any], run: str | os.PathLike[str] | None) -> None:
    """Refuse a selector without what it needs, before anything is read, with the command that makes it."""
    from swath.selection.selectors import SELECTORS

    needs = SELECTORS[by].needs
    if "features" in needs and run is None and given["features"] is None:
        raise InputError(
            f"{by} works on features of the scenes. Name a trained run whose encoder gives them (--run RUN; "
            f"`swath train DATA --out RUN` makes one), or a file of features (--features FILE.npy)."
        )
    if "dynamics" in needs and run is None:
        raise InputError(
            f"{by} works on what a training showed of the scenes. Record it, then name the run:\n"
            f"  swath train DATA --record-dynamics --out RUN\n  swath select --run RUN --by {by} --keep "
            f"{given['keep']}"
        )
    if by == "strata" and not given["strata"]:
        raise InputError(
            "strata needs to know by what: --strata class,season,climate.tif names the classes, columns of the table, "
            "and rasters that are looked up at the scenes' coordinates."
        )
    selector = SELECTORS[by]
    computes = ("features" in selector.needs and given["features"] is None) or "images" in selector.likes
    if given["ray"] is not None and not computes:
        raise InputError(
            f"--ray was given, and {by} computes nothing of the scenes that a cluster could share. Leave it out."
        )
    if by != "strata" and given["strata"]:
        raise InputError(f"--strata was given, and {by} makes none. Leave it out, or select by strata.")


def _prepared(
    data: str | os.PathLike[str] | SceneSource | None,
    given: Mapping[str, Any],
    run: str | os.PathLike[str] | None,
) -> tuple[Prepared, Run | None, bool]:
    """Return the data with its parts, the run that was named, and whether the run is of this data."""
    from swath.tasks.prepare import prepare, prepare_run
    from swath.tasks.train import option_defaults
    from swath.training.run import load_run

    encoder = None if run is None else load_run(run)
    if data is None and encoder is None:
        raise InputError("Name a data set, or a run whose data it is (--run RUN).")
    source, where = (None, os.fspath(data)) if isinstance(data, str | os.PathLike) else (data, "")
    where = os.path.abspath(where) if where and os.path.exists(where) else where
    if encoder is not None and source is None and where in ("", encoder.config["data"]):
        return prepare_run(encoder), encoder, True
    options = {**option_defaults(), **{name: given[name] for name in option_defaults() if name in given}}
    if encoder is not None:
        options["size"] = encoder.config["size"]
    return prepare({**options, "data": where}, source), encoder, False


def _pool(prepared: Prepared, given: Mapping[str, Any], encoder: Run | None, own: bool) -> Pool:
    """Return the training scenes with what the selector needs of them, and nothing that it does not."""
    from swath.selection.measuring import measure
    from swath.selection.places import strata_of
    from swath.selection.pool import Pool, check_features
    from swath.selection.selectors import SELECTORS
    from swath.training.dynamics import has_dynamics

    selector, rows = SELECTORS[given["by"]], prepared.parts["train"]
    index = prepared.store.kept[rows]
    parts: dict[str, Any] = {}
    network = None
    if "features" in selector.needs and given["features"] is not None:
        parts["features"] = check_features(_load(Path(given["features"])), len(prepared.source))[index]
    elif "features" in selector.needs and encoder is not None:
        encoder.contract.check_fits(prepared.source.contract, what=prepared.source.name)
        network = encoder.folder
    bits = "images" in selector.likes
    if network is not None or bits:
        found = measure(prepared.store, rows, network, bits=bits, ray=given["ray"])
        parts["bits"] = found.bits
        if network is not None:
            parts["features"] = found.features
    if encoder is not None and ("dynamics" in selector.needs or (own and has_dynamics(encoder.folder))):
        parts["dynamics"] = _dynamics(encoder, own, len(rows), prepared.source.name)
    if "strata" in selector.needs:
        what = [name.strip() for name in str(given["strata"]).split(",") if name.strip()]
        parts["strata"], _ = strata_of(what, prepared.source.columns, index, prepared.labels)
    return Pool(len(rows), prepared.labels, **parts)


def _dynamics(encoder: Run, own: bool, scenes: int, name: str) -> Any:
    from swath.training.dynamics import load_dynamics

    if not own:
        raise InputError(
            f"{encoder.folder} was trained on {encoder.config['data']}, and training dynamics say something about the "
            f"scenes of that training only, not about {name}. Leave DATA out, or train on it with --record-dynamics."
        )
    dynamics = load_dynamics(encoder.folder)
    if len(dynamics) != scenes:
        raise RunError(
            f"{encoder.folder} has training dynamics of {len(dynamics)} scenes and {scenes} training scenes; one of "
            f"its files is of another run. Train it again with --record-dynamics."
        )
    return dynamics


def _of_features(path: Path, by: str) -> tuple[Pool, npt.NDArray[np.int64], list[str]]:
    """Return a pool of which nothing is known but the features."""
    import numpy as np

    from swath.selection.pool import Pool, check_features
    from swath.selection.selectors import SELECTORS

    needs = set(SELECTORS[by].needs) - {"features"}
    if needs:
        raise InputError(
            f"{by} needs {' and '.join(sorted(needs))}, and {path} holds features alone. Give the data set, with "
            f"--features {path}."
        )
    matrix = check_features(_load(path))
    return (
        Pool(len(matrix), features=matrix),
        np.arange(len(matrix)),
        [f"row {row}" for row in range(len(matrix))],
    )


def _load(path: Path) -> npt.NDArray[Any]:
    import numpy as np

    try:
        loaded: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as a NumPy matrix (.npy): {str(error).rstrip('.')}."
        ) from error
    return loaded


def _file_identity(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return "features " + hashlib.file_digest(file, "blake2b").hexdigest()[:32]
