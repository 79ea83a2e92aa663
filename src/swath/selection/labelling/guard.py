"""Who may talk to the labelling page: only its own page, opened with the token of its address."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "is_loopback"]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_ALWAYS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_SEALED: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Refuses every request that does not come from the page itself.

    - The name in ``Host`` has to be this machine's: another site's name that was made to lead here is refused.
    - The page is opened with the token; from then on a cookie of this site alone carries it.
    - What changes anything has to say that it comes from this very site (``Origin``).

    Args:
        app: What is guarded.
        token: The secret of the address.
        cookie: Name of the cookie that carries it.
        host: The address that is listened on.
        scheme: ``http`` or ``https``.
    """

    def __init__(self, app: ASGIApp, *, token: str, cookie: str, host: str, scheme: str) -> None:
        self._app, self._token, self._cookie, self._scheme = app, token.encode(), cookie, scheme
        self._local = is_loopback(host)
        self._names = {*LOOPBACK, host.lower()}
        if not self._local:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # nothing here speaks anything else; the connection is closed
        status, reason, opened = self._judge(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers[name] = value
                headers.setdefault("Content-Security-Policy", _SEALED)
                headers.setdefault("Cache-Control", "no-store")
                if opened:
                    secure = "; Secure" if self._scheme == "https" else ""
                    headers["Set-Cookie"] = (
                        f"{self._cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict{secure}"
                    )
            await send(message)

        app = self._app if status == 200 else PlainTextResponse(reason, status)
        await app(scope, receive, with_headers)

    def _judge(self, scope: Scope) -> tuple[int, str, bool]:
        """Return status, reason, and whether the page is being opened with the token."""
        headers = Headers(scope=scope)
        if not self._is_this_machine(headers.get("host", "")):
            return 421, "This address is not the one that `swath label` printed.", False
        reading = scope["method"] in ("GET", "HEAD")
        site = headers.get("sec-fetch-site", "none")
        if scope["path"] != "/" and site not in ("same-origin", "none"):
            return 403, "Refused: the request comes from another site.", False
        if not reading and headers.get("origin") != f"{self._scheme}://{headers['host']}":
            return 403, "Refused: the request does not come from the labelling page.", False
        given = QueryParams(scope["query_string"]).get("token") if scope["path"] == "/" and reading else None
        if given is not None and self._is_token(given):
            return 200, "", True
        if self._is_token(cookie_parser(headers.get("cookie", "")).get(self._cookie, "")):
            return 200, "", False
        return (
            403,
            "Open the address that `swath label` printed when it started, with its token. It is another one each time.",
            False,
        )

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    def _is_this_machine(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        if self._local:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # no site's name can be made to lead to a bare address
