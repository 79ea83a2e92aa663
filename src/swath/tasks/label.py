"""A page on which people label scenes."""

from __future__ import annotations

import getpass
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swath.errors import InputError, MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from swath.scenes.files import FileScenes
    from swath.selection.labelling.answers import AnswerLog, Mode

__all__ = ["label"]


def label(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    classes: str | None = None,
    exclusive: bool = False,
    one_positive: bool = False,
    run: str | None = None,
    ask: str = "random",
    budget: int | None = None,
    train_options: dict[str, Any] | None = None,
    user: str | None = None,
    twice: float = 0.0,
    seed: int = 0,
    image_column: str | None = None,
    label_columns: str | None = None,
    complete: bool = False,
    images: str | None = None,
    nodata: float | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    tls_certificate: str | None = None,
    tls_key: str | None = None,
    no_browser: bool = False,
) -> str:
    """Open a local page on which people label scenes, by keyboard or touch, until Ctrl-C.

    Every answer is on disk before the next scene shows. The same command goes on where it was stopped, or killed.

    Args:
        data: A folder of images or of class folders, or a table of images. What it knows labels of is not asked.
        out: The label table to make (.parquet), for ``swath train``; the answers are kept beside it.
        classes: Comma-separated classes, for images without labels; labels that ``data`` has are then not looked at.
        exclusive: With ``classes``: each scene has one class. Otherwise any number of them can be present.
        one_positive: Ask for one class that is present, and leave the others unknown.
        run: A trained run that suggests classes, where a person switches that on.
        ask: How the scenes of a round are chosen once there is a model: ``random``, or a strategy of ``swath ask``.
        budget: Scenes in a round, after which a training is offered; without it all scenes are one round.
        train_options: Options of ``swath train`` between rounds, by name; else those of ``run``, else defaults.
        user: Your name in the table; if None, that of your account. Others enter theirs on the page.
        twice: Share of the scenes that two people are asked, to see how far they agree.
        seed: Seed of the order of the scenes.
        image_column: Column of image paths in a table; if None, found by its usual names.
        label_columns: Comma-separated columns that hold labels; if None, all that are not something else.
        complete: Whether a class that a table's ``|`` list leaves out is absent; otherwise it is unknown.
        images: Folder that a table's paths are relative to; if None, the table's own.
        nodata: Number that marks pixels without data, instead of what the files say.
        host: Address to listen on; anything but this machine's own lets others in who have the token.
        port: Port to listen on; 0 for any that is free.
        tls_certificate: Certificate (PEM file) for https.
        tls_key: Its private key (PEM file).
        no_browser: Print the address only, and open no browser.

    Returns:
        What was labelled, in words.

    Raises:
        InputError: An option or the data is not usable, the answers belong to other data, or the port is taken.
        MissingExtraError: The page's server is not installed.

    Example:
        >>> try:
        ...     label("scenes", out="labels.txt")
        ... except InputError as error:
        ...     print(error)
        labels.txt should end in .parquet, the kind of table that the page writes.
    """
    target = Path(out)
    if target.suffix.lower() != ".parquet":
        raise InputError(f"{target} should end in .parquet, the kind of table that the page writes.")
    if (tls_certificate is None) != (tls_key is None):
        raise InputError("tls_certificate and tls_key belong together; give both, or neither for plain http.")
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("The labelling page needs a server: pip install 'swath[label]'.") from error
    import secrets

    from swath.selection.labelling.answers import AnswerLog
    from swath.selection.labelling.desk import log_path, open_desk
    from swath.selection.labelling.server import address_of, listening, serve

    _check_ask(ask, budget)
    _refuse_inside(target, Path(data))
    reading = {
        "image_column": image_column,
        "label_columns": None if label_columns is None else _listed(label_columns),
        "complete": complete,
        "images": images,
        "nodata": nodata,
    }
    secure = tls_certificate is not None
    with closing(listening(host, port)) as place, closing(AnswerLog(log_path(target))) as log:
        named, mode = _kind(log, target, classes, exclusive=exclusive, one_positive=one_positive)
        source, mode = _opened(data, reading, named, mode)
        desk = open_desk(
            source,
            log,
            target,
            mode=mode,
            user=user or _account(),
            run=None if run is None else Path(run),
            ask=ask,
            budget=budget,
            twice=twice,
            seed=seed,
            train=train_options,
            unlabelled=named is not None,
        )
        token = secrets.token_urlsafe(24)
        _say_where(address_of(place, host, token, secure=secure), host, secure=secure, browser=not no_browser)
        pair = (Path(tls_certificate), Path(tls_key)) if tls_certificate and tls_key else None
        serve(desk, place, host, token, tls=pair)
    done = len(desk.session.answers())
    said = f"{done} of {len(source)} scenes are labelled.\nanswers: {log.path}"
    return said + (f"\ntable: {target}" if target.exists() else "")


def _refuse_inside(target: Path, data: Path) -> None:
    """Refuse a table that would lie in the data, where it would be taken for the data's own."""
    folder = data if data.is_dir() else None
    if (folder and folder.resolve() in target.resolve().parents) or target.resolve() == data.resolve():
        raise InputError(
            f"{target} would lie in {data} and be read as its table the next time. Put it elsewhere, such as beside "
            f"that folder."
        )


def _kind(
    log: AnswerLog, target: Path, classes: str | None, *, exclusive: bool, one_positive: bool
) -> tuple[list[str] | None, Mode | None]:
    """Return classes that were named, here or when the labelling began, and how scenes are labelled, if known."""
    if exclusive and one_positive:
        raise InputError(
            "Where classes are exclusive, one positive is the whole answer: leave --one-positive out."
        )
    starts = [record for record in log.lines if record.get("event") == "start"]
    if not log.lines and target.exists():
        raise InputError(
            f"{target} exists, without the answers it would be made from ({log.path.name}). Name another file with "
            f"--out; to label what it does not know yet, give it as DATA."
        )
    named = None if classes is None else _listed(classes)
    mode: Mode | None = "one-positive" if one_positive else "one-class" if exclusive else None
    if starts:
        begun = starts[-1]
        if named is None and begun.get("unlabelled"):
            named = [str(name) for name in begun.get("classes", ())]
        stored = begun.get("mode")
        if mode is None and stored in ("one-class", "one-positive", "full"):
            mode = stored
    elif mode is None and named is not None:
        mode = "full"
    return named, mode


def _opened(
    data: str | os.PathLike[str], reading: dict[str, Any], named: list[str] | None, mode: Mode | None
) -> tuple[FileScenes, Mode]:
    from swath.scenes.files import FileScenes
    from swath.scenes.open import open_scenes

    try:
        source = open_scenes(data, **reading, classes=named)
    except InputError as error:
        if named is not None:
            raise
        raise InputError(
            f"{error} To label images of which nothing is known, name the classes: --classes water,forest"
        ) from error
    if not isinstance(source, FileScenes) or source.image_path(0) is None:
        raise InputError(
            f"{source.name} has no image files of its own, which the label table could name. Give a folder of "
            f"images or a table of them; unpack archives first."
        )
    if mode is None:
        mode = "one-class" if source.labels.exclusive else "full"
    elif mode == "one-positive" and source.labels.exclusive:
        raise InputError(
            f"The classes of {source.name} exclude each other, so one class is the whole answer: leave "
            f"--one-positive out."
        )
    return source, mode


def _check_ask(name: str, budget: int | None) -> None:
    if name == "random":
        return
    from swath.selection.query import STRATEGIES  # not for random, whose page is to be there at once

    if name not in STRATEGIES:
        raise UnknownNameError("query strategy", name, STRATEGIES)
    if budget is None:
        raise InputError(f"--ask {name} chooses the scenes of each round: say how many with --budget.")


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return "me"


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _say_where(address: str, host: str, *, secure: bool, browser: bool) -> None:
    import webbrowser

    from swath.selection.labelling.guard import is_loopback

    print(f"Label at {address}\nStop with Ctrl-C; the same command goes on.", flush=True)
    if not is_loopback(host):
        who = "" if secure else ", and without TLS anyone in between can read and change what is sent"
        print(f"Warning: everybody who can reach {host} and has this address can label{who}.", flush=True)
    if browser:
        webbrowser.open(address)
