"""What is computed of every scene before a selection, features and entropy: here, or shard by shard on a Ray cluster.

A shard is a range of rows of one packed store. What is computed of it is kept in the cache, so that the next
selection with the same network, or the same command after an interruption, goes on from there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rich.console
import rich.progress
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from swath.cluster import RETRIES, fetched, first_ready, join, processors, refuse_other_versions, versions
from swath.encoders import SceneModel
from swath.errors import SceneError, SwathError
from swath.files import writing
from swath.scenes.packed import PackedScenes
from swath.scenes.packing import cache_folder
from swath.selection.entropy import scene_entropy
from swath.training.predict import features
from swath.training.run import load_model

__all__ = ["SHARD", "Measured", "measure"]

SHARD: Final = 4096
"""Scenes in a shard: a multiple of the batch, so that batches do not depend on where shards end."""

_WHAT: Final = ("features", "bits")
_KEPT: Final = "What is computed is kept; call the same command again to go on."

Rows = npt.NDArray[np.int64]
Values = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Measured:
    """What is known of scenes before one of them is chosen.

    Args:
        features: (scenes, d) float32, or None.
        bits: (scenes,) float32 entropy of the grey levels, or None.
    """

    features: npt.NDArray[np.float32] | None = None
    bits: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class _Job:
    """What all shards share.

    Args:
        store: Folder of the packed scenes.
        key: What it holds.
        bits: Whether the entropy is wanted.
        versions: Of what decides the values, on the machine that was called.
        weights: Ray's reference to the model's file or to None, in a tuple so that Ray does not send it along with
            every task.
    """

    store: Path
    key: str
    bits: bool
    versions: tuple[tuple[str, str], ...]
    weights: tuple[Any]


def measure(
    store: PackedScenes, rows: Rows, run: Path | None, *, bits: bool = False, ray: str | None = None
) -> Measured:
    """Return the features that a run's encoder gives scenes, and the entropy of their pictures.

    Args:
        store: The packed scenes. With ``ray`` its folder has to be one that all machines share (``SWATH_CACHE``).
        rows: Rows of the store.
        run: Folder with the model, or None for no features.
        bits: Whether the entropy is wanted.
        ray: Address of a Ray cluster on which the shards are computed; None computes them here.

    Returns:
        What was asked for. The values are the same on a cluster up to the last bits of the features, which depend
        on the threads of a process.

    Raises:
        SwathError: The cluster cannot do its part.
        OutputError: The cache cannot be written.
    """
    starts = range(0, len(rows), SHARD)
    folder = cache_folder() / "measured" / _key(store, rows, run, bits=bits)
    kept = {
        start: values for start in starts if (values := _read(folder / f"{start}.safetensors")) is not None
    }
    missing = [start for start in starts if start not in kept]
    with contextlib.ExitStack() as stack:
        if ray is None:
            found = _here(store, rows, run, missing, bits=bits)
        else:
            found = _there(ray, store, rows, run, missing, stack, bits=bits) if missing else iter(())
        for start, values in _progress(found, len(missing)):
            with writing(folder / f"{start}.safetensors") as temporary:
                save_file(values, temporary)
            kept[start] = values
    return Measured(
        **{name: np.concatenate([kept[start][name] for start in starts]) for name in _WHAT if name in kept[0]}
    )


def _key(store: PackedScenes, rows: Rows, run: Path | None, *, bits: bool) -> str:
    digest = hashlib.blake2b(store.key.encode(), digest_size=16)
    digest.update(np.ascontiguousarray(rows, np.int64).data)
    digest.update(repr((bits, SHARD, versions())).encode())
    if run is not None:
        digest.update(_model_file(run).read_bytes())
    return digest.hexdigest()


def _model_file(run: Path) -> Path:
    return run / "model.safetensors"


def _read(path: Path) -> Values | None:
    """Return what is kept of a shard, None if there is nothing, or nothing that can be read."""
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError):
        return None


def _values(store: PackedScenes, rows: Rows, model: SceneModel | None, *, bits: bool) -> Values:
    found: Values = {}
    if model is not None:
        contract = model.contract
        found["features"] = features(model, lambda some: store.batch(some, contract), rows)
    if bits:
        found["bits"] = scene_entropy(store, rows)
    return found


def _here(
    store: PackedScenes, rows: Rows, run: Path | None, missing: list[int], *, bits: bool
) -> Iterator[tuple[int, Values]]:
    model = None if run is None or not missing else load_model(run)
    for start in missing:
        yield start, _values(store, rows[start : start + SHARD], model, bits=bits)


def _there(
    address: str,
    store: PackedScenes,
    rows: Rows,
    run: Path | None,
    missing: list[int],
    stack: contextlib.ExitStack,
    *,
    bits: bool,
) -> Iterator[tuple[int, Values]]:
    ray = join(address, stack)
    weights = None if run is None else np.fromfile(_model_file(run), np.uint8)
    wanted = versions()
    job = _Job(store.folder.resolve(), store.key, bits, tuple(wanted.items()), (ray.put(weights),))
    shard = ray.remote(num_cpus=1, max_retries=RETRIES)(_shard)
    waiting, pending = list(reversed(missing)), dict[Any, int]()
    while waiting or pending:
        while waiting and len(pending) < 2 * max(1, processors(ray)):
            start = waiting.pop()
            pending[shard.remote(job, rows[start : start + SHARD])] = start
        for reference in first_ready(ray, pending, kept=_KEPT):
            values = fetched(ray, reference, wanted, smaller="a smaller network", kept=_KEPT)
            yield pending.pop(reference), values


def _shard(job: _Job, rows: Rows) -> Values:
    """Compute one shard; runs in a worker of the cluster."""
    store, model = _start(job)
    return _values(store, rows, model, bits=job.bits)


@functools.lru_cache(maxsize=1)
def _start(job: _Job) -> tuple[PackedScenes, SceneModel | None]:
    import ray

    refuse_other_versions(dict(job.versions), kept=_KEPT)
    torch.set_num_threads(1)
    here = f"{socket.gethostname()} of the cluster"
    hint = "Set SWATH_CACHE to a folder that all machines share under the same path."
    try:
        store = PackedScenes(job.store)
    except SceneError as error:
        raise SwathError(f"{here} cannot read the packed scenes: {error} {hint}") from error
    if store.key != job.key:
        raise SwathError(f"{here} sees other packed scenes in {job.store}. {hint}")
    weights = ray.get(job.weights[0])
    if weights is None:
        return store, None
    with tempfile.TemporaryDirectory(prefix="swath-") as folder:
        weights.tofile(_model_file(Path(folder)))
        return store, load_model(Path(folder))


def _progress(found: Iterator[tuple[int, Values]], count: int) -> Iterator[tuple[int, Values]]:
    console = rich.console.Console(stderr=True)
    yield from rich.progress.track(
        found, "Looking at scenes", count, console=console, transient=True, disable=not console.is_terminal
    )
