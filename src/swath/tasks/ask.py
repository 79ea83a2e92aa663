"""Which scenes of a partly labelled data set to have labelled next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from swath.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from swath.scenes.source import SceneSource

__all__ = ["ask"]


def ask(
    data: str | os.PathLike[str] | SceneSource,
    *,
    out: str | os.PathLike[str],
    budget: str | int | float,
    by: str = "hssal",
    run: str | os.PathLike[str] | None = None,
    seed: int = 0,
    image_column: str | None = None,
    label_columns: str | None = None,
    complete: bool = False,
    images: str | None = None,
    nodata: float | None = None,
    skip_unreadable: bool = False,
) -> pd.DataFrame:
    """Write down which scenes to have labelled next, so that each label teaches much.

    A scene counts as labelled if its class is known, or any of its labels where there may be several. Labels decide
    nothing else. Where the data has a ``split`` column, only its training scenes are asked about.

    Args:
        data: A folder of classes, a table, a zip, ``earth:...``, or an open source, with some labels unknown.
        out: A ``.csv`` or ``.parquet`` file for the list, written whole or not at all.
        budget: How many scenes to ask for: a whole number, or a percentage or share of all scenes of the data.
        by: ``random``, ``entropy``, ``margin``, ``coreset``, ``badge`` or ``hssal``.
        run: A run trained on these classes. One trained on other classes gives features only, which is enough for
            ``coreset`` and ``hssal``; ``random`` needs none.
        seed: The one seed.
        image_column: Column of image paths in a table; if None, found by its usual names.
        label_columns: Comma-separated columns that hold labels; if None, all that are not something else.
        complete: Whether a class that a table's ``|`` list leaves out is absent; otherwise it is unknown.
        images: Folder that a table's paths are relative to; if None, the table's own.
        nodata: Number that marks pixels without data, instead of what the files say.
        skip_unreadable: Leave out images that cannot be read.

    Returns:
        One line for each scene to label, the first to ask first: ``order`` (from 1), ``row`` (position in the data),
        ``scene`` (its name), and with a run of these classes ``suggested`` (the most probable class) and
        ``probability``.

    Raises:
        InputError: The budget is not usable, ``out`` is neither CSV nor Parquet or lies inside ``data``, or the
            strategy needs a run.
        UnknownNameError: There is no such strategy.
        ContractError: Bands or units of the data are not the run's.

    Example:
        >>> import tempfile, numpy as np, swath
        >>> scenes = swath.open_scenes("earth:scenes=12,size=16")
        >>> scenes.labels = scenes.labels.with_state(np.where(np.arange(12)[:, None] < 8, scenes.labels.state, -1))
        >>> asked = ask(scenes, by="random", budget=2, out=tempfile.mkdtemp() + "/next.csv")
        >>> bool((asked["row"] >= 8).all())
        True
    """
    import pandas as pd

    from swath.files import writing
    from swath.scenes.source import SceneSource
    from swath.selection.asking import labelled_scenes, next_scenes
    from swath.selection.shares import kept_of
    from swath.tasks.prepare import open_source
    from swath.training.run import load_run

    target = Path(out)
    if target.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"{target} should end in .csv or .parquet, the two kinds of table that ask writes.")
    if not isinstance(data, SceneSource) and Path(data).resolve() in target.resolve().parents:
        raise InputError(
            f"{target} lies inside {data}, where the next command would take it for the table of the data set. Name a "
            f"file elsewhere."
        )
    named = {"image_column": image_column, "label_columns": label_columns, "complete": complete}
    source = open_source({"data": data, "images": images, "nodata": nodata, **named})
    model = None if run is None else load_run(run).model
    question = next_scenes(
        model,
        source,
        labelled_scenes(source.labels),
        kept_of(budget, len(source)),
        by=by,
        seed=seed,
        skip_unreadable=skip_unreadable,
    )
    names = [source.describe(int(row)) for row in question.rows]
    table = pd.DataFrame({"order": range(1, len(names) + 1), "row": question.rows, "scene": names})
    if model is not None and question.probability is not None:
        best = question.probability.argmax(axis=1)
        table["suggested"] = [model.contract.classes[column] for column in best]
        table["probability"] = question.probability.max(axis=1).round(4)
    with writing(target) as temporary:
        if target.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False)
    return table
