"""The labelling page's server: pictures, answers and rounds over HTTP, for its own page alone."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, Field

from swath.errors import InputError, OutputError, SwathError
from swath.selection.labelling.desk import Desk
from swath.selection.labelling.guard import Guard, is_loopback

__all__ = ["address_of", "listening", "make_app", "serve"]

_BODY_BYTES: Final = 2**20
_CACHED: Final = {"Cache-Control": "private, max-age=3600"}
_QUIET: Final = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
Name = Annotated[str, Field(min_length=1, max_length=4096)]
Key = Annotated[str, Field(min_length=1, max_length=64)]


class Said(BaseModel):
    """An answer as the page sends it."""

    client: Key
    user: Key
    id: Key
    scene: Name
    labels: dict[Name, int]
    unclear: bool
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    suggested: list[tuple[Name, Annotated[float, Field(ge=0, le=1)]]] | None


class TakeBack(BaseModel):
    """Which answer is taken back."""

    client: Key
    user: Key
    id: Key


class GoOn(BaseModel):
    """How the next round begins."""

    client: Key
    user: Key
    train: bool


def make_app(desk: Desk) -> FastAPI:
    """Return the application, without the guard that has to stand before it.

    Args:
        desk: What it talks to; it is at work while the application runs.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with desk.at_work():
            yield

    app = FastAPI(
        lifespan=lifespan,
        # No pages that describe the interface, no telemetry: nothing but the page talks to this.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry=_QUIET,  # type: ignore[arg-type]
        max_body_size=_BODY_BYTES,
    )
    version = secrets.token_hex(4)  # pictures that a browser kept from another data set are not shown
    template = Environment(
        loader=PackageLoader("swath.selection.labelling"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html.j2")

    @app.exception_handler(SwathError)
    def refused(_: Request, error: SwathError) -> JSONResponse:
        return _refusal(str(error), 507 if isinstance(error, OutputError) else 422)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        # FastAPI's own answer repeats what was sent, which may be what no answer can hold.
        first = error.errors()[0]
        return _refusal(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 422)

    @app.get("/")
    def page() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        job = desk.session.job
        content = {
            "data": job.data,
            "classes": list(job.classes),
            "mode": job.mode,
            "user": desk.user,
            "version": version,
            "table": desk.labels.path.name,
            "budget": job.budget,
        }
        policy = (
            f"default-src 'none'; img-src 'self' data:; connect-src 'self'; script-src 'nonce-{nonce}'; "
            f"style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        text = template.render(content=content, nonce=nonce)
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    @app.get("/api/state")
    def state(client: Key, user: Key) -> dict[str, Any]:
        return desk.view(client, user)

    @app.post("/api/answer")
    def answer(said: Said) -> dict[str, Any]:
        desk.answer(said.client, said.model_dump())
        return desk.view(said.client, said.user)

    @app.post("/api/undo")
    def undo(wanted: TakeBack) -> dict[str, Any]:
        desk.session.undo(wanted.client, wanted.user, wanted.id)
        return desk.view(wanted.client, wanted.user)

    @app.post("/api/round")
    def go_on(wanted: GoOn) -> dict[str, Any]:
        desk.rounds.go_on(train=wanted.train)
        return desk.view(wanted.client, wanted.user)

    @app.post("/api/save")
    def save() -> dict[str, str]:
        desk.labels.write()
        return {"table": str(desk.labels.path)}

    @app.get("/api/agreement")
    def agreement() -> dict[str, Any] | None:
        return desk.session.agreement()

    @app.get("/scene/{position}")
    def scene(position: int) -> Response:
        return _picture(desk.pictures.scene(_checked(position)))

    @app.get("/around/{position}")
    def around(position: int) -> Response:
        return _picture(desk.neighbourhood.picture(_checked(position)))

    def _checked(position: int) -> int:
        if not 0 <= position < len(desk.source):
            raise HTTPException(404, f"There is no scene {position}.")
        return position

    return app


def _refusal(words: str, status: int) -> JSONResponse:
    return JSONResponse({"detail": words.encode("utf-8", "backslashreplace").decode()}, status)


def _picture(made: tuple[bytes, str] | None) -> Response:
    if made is None:
        raise HTTPException(404, "Nothing is known of the ground around this scene.")
    return Response(made[0], media_type=made[1], headers=_CACHED)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that people can connect to already.

    Raises:
        InputError: The port is taken, or the address is none of this machine.
    """
    if not 0 <= port < 65536:
        raise InputError(f"port is {port}; expected 0 (any free one) to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(address)
            found.listen(128)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise InputError(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. If another program has the port, "
            f"perhaps another `swath label`, give another --port, or 0 for any that is free."
        ) from error
    return found


def serve(
    desk: Desk, place: socket.socket, host: str, token: str, *, tls: tuple[Path, Path] | None = None
) -> None:
    """Serve the page until Ctrl-C or a signal to end; the label table is written before this returns.

    Args:
        desk: What the page talks to.
        place: Where to listen.
        host: The address that was asked for.
        token: The secret of the address.
        tls: Certificate and private key (PEM files) for https, or None for plain http.

    Raises:
        InputError: Certificate or key cannot be used.
    """
    certificate, key = tls or (None, None)
    scheme = "https" if tls else "http"
    cookie = f"swath-label-{place.getsockname()[1]}"  # cookies know no ports; another page keeps its own
    guarded = Guard(make_app(desk), token=token, cookie=cookie, host=host, scheme=scheme)
    config = uvicorn.Config(
        guarded,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=3,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        raise InputError(
            f"The certificate {certificate} and the key {key} cannot be used: {error}."
        ) from error
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[place])


def address_of(place: socket.socket, host: str, token: str, *, secure: bool) -> str:
    """Return the address to open."""
    name = host if is_loopback(host) else socket.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"{'https' if secure else 'http'}://{name}:{place.getsockname()[1]}/?token={token}"
