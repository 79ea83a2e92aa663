"""Probabilities for images that nobody has labelled."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from swath.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["predict"]


def predict(
    run: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    batch_size: int = 256,
    skip_unreadable: bool = False,
) -> pd.DataFrame:
    """Predict the classes of images with a trained run.

    Images are held to the model's band contract: bands are found by name, and images whose bands, units or
    scales differ are refused with the difference spelled out.

    Args:
        run: The run's folder.
        images: Image files, folders (searched to the bottom) or patterns such as ``"tiles/*.tif"``.
        out: A ``.csv`` or ``.parquet`` file to write the table to, whole or not at all.
        batch_size: Images at a time; it changes memory, not results.
        skip_unreadable: Give images that cannot be read an empty row with the reason in the column ``unreadable``,
            instead of stopping.

    Returns:
        One row per image: ``image``, then one column per class with its probability in [0, 1].

    Raises:
        InputError: Nothing matches, or ``out`` is neither CSV nor Parquet.
        ContractError: The images do not keep the model's band contract.
        SceneError: An image cannot be read.

    Example:
        >>> import tempfile, swath
        >>> from swath.scenes.earth import SyntheticEarth
        >>> folder = tempfile.mkdtemp()
        >>> options = {"method": "all-known", "size": 16, "epochs": 1}
        >>> run = swath.train("earth:scenes=48,size=16", out=folder + "/run", **options)
        >>> _ = SyntheticEarth.scene(32, 32).write_scene(folder + "/scene.tif")
        >>> predict(run.folder, [folder + "/scene.tif"]).shape
        (1, 12)
    """
    import numpy as np
    import pandas as pd

    from swath.files import writing
    from swath.scenes.open import open_images
    from swath.scenes.packing import pack
    from swath.training.predict import probabilities
    from swath.training.run import load_run

    target = None if out is None else Path(out)
    if target is not None and target.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(
            f"{target} should end in .csv or .parquet, the two kinds of table that predict writes."
        )
    model = load_run(run).model
    contract = model.contract
    source = open_images(images, contract.classes, exclusive=contract.exclusive)
    contract.check_fits(source.contract, what=source.describe(0))
    with (
        tempfile.TemporaryDirectory(prefix="swath-predict-") as folder,
        pack(source, model.size, Path(folder) / "packed", skip_unreadable=skip_unreadable) as store,
    ):
        rows = np.arange(len(store))
        found = probabilities(model, lambda some: store.batch(some, contract), rows, batch_size=batch_size)
        values = np.full((len(source), len(contract.classes)), np.nan, np.float32)
        values[store.kept] = found
        table = pd.DataFrame(values, columns=list(contract.classes))
        table.insert(0, "image", [source.describe(index) for index in range(len(source))])
        if store.unreadable:
            table["unreadable"] = ""
            for scene in store.unreadable:
                table.loc[scene.row, "unreadable"] = scene.reason
    if target is not None:
        with writing(target) as temporary:
            if target.suffix.lower() == ".csv":
                table.to_csv(temporary, index=False, float_format="%.6g")
            else:
                table.to_parquet(temporary, index=False)
    return table
