"""The server from outside, as another site, another program or a curious neighbour meets it."""

import http.client
import json
import ssl
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swath.scenes.open import open_scenes

PAIR = ("-keyout", "key.pem", "-out", "certificate.pem")


class Caller:
    """Speaks HTTP to a page's server, with any headers."""

    def __init__(self, page: Any, *, cookie: bool = True, secure: bool = False) -> None:
        self.host = page.base.partition("://")[2]
        self.origin = page.base
        self.secure = secure
        self.cookie = ""
        if cookie:
            status, headers, _ = self("GET", f"/?token={page.token}")
            assert status == 200
            self.cookie = headers["set-cookie"].partition(";")[0]

    def __call__(
        self, method: str, path: str, body: Any = None, **changed: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        headers = {"Host": self.host, "Cookie": self.cookie or None}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Origin": self.origin}
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        address, _, port = self.host.rpartition(":")
        if self.secure:
            trusting = ssl._create_unverified_context()
            connection: Any = http.client.HTTPSConnection(address, int(port), timeout=120, context=trusting)
        else:
            connection = http.client.HTTPConnection(address, int(port), timeout=120)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(content)
        reply = connection.getresponse()
        found = reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        connection.close()
        return found

    def state(self, user: str = "anna", client: str = "c") -> dict[str, Any]:
        status, _, body = self("GET", f"/api/state?client={client}&user={urllib.parse.quote(user)}")
        assert status == 200, body
        return dict(json.loads(body))

    def answer(self, name: str, **changed: Any) -> tuple[int, Any]:
        body = {"client": "c", "user": "anna", "id": f"id {name}", "scene": name, "labels": {"water": 1}}
        body |= {"unclear": False, "seconds": 1.0, "suggested": None}
        status, _, content = self("POST", "/api/answer", body | changed)
        return status, json.loads(content)


@pytest.fixture
def page(images: Callable[..., Path], serve: Callable[..., Any], tmp_path: Path) -> Any:
    """A server of six images, one of which is none."""
    folder = images(5)
    (folder / "a<b>.png").write_bytes(b"no image at all")
    return serve(folder, "--classes", "water,forest", "--exclusive", "--out", tmp_path / "labels.parquet")


def test_nobody_but_the_page_is_answered(page: Any, tmp_path: Path) -> None:
    # One server for all of it: starting one is what takes time.
    only_the_page_itself(page)
    other_sites(page)
    headers_keep_the_page_to_itself(page)
    nothing_but_scenes(page)
    answers_that_are_none(page, tmp_path / "labels.answers.jsonl")
    huge_or_broken_requests(page)
    an_image_that_cannot_be_read(page)
    assert "Traceback" not in page.text


def only_the_page_itself(page: Any) -> None:
    stranger = Caller(page, cookie=False)
    # The token, compared as a whole, opens the page and nothing else does.
    for path in (
        "/",
        "/?token=",
        "/?token=wrong",
        f"/?token={page.token[:-1]}",
        f"/?token={page.token}x",
        "/?token=%FF",
    ):
        assert stranger("GET", path)[0] == 403, path
    for path in ("/api/state?client=c&user=u", "/scene/0", "/api/agreement", "/docs", "/openapi.json"):
        assert stranger("GET", path)[0] == 403, path
        assert stranger("GET", f"{path}{'&' if '?' in path else '?'}token={page.token}")[0] == 403, path
        assert stranger("GET", path, Cookie=f"swath-label-{page.base.rpartition(':')[2]}=wrong")[0] == 403
    status, headers, body = stranger("GET", f"/?token={page.token}")
    assert status == 200
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(headers["set-cookie"].split("; "))
    assert page.token.encode() not in body
    caller = Caller(page)
    assert caller("GET", "/scene/0")[0] == 200
    for path in ("/docs", "/openapi.json", "/redoc", "/static/x", "//etc/passwd"):
        assert caller("GET", path)[0] == 404, path


def other_sites(page: Any) -> None:
    caller = Caller(page)
    name = caller.state()["scenes"][0]["name"]
    # A name that was made to lead here (DNS rebinding).
    for host in (
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "",
        "[::1",
        "localhost@evil.example:1",
    ):
        assert caller("GET", "/api/state?client=c&user=u", Host=host)[0] in (400, 421), host
    assert caller("GET", "/api/state?client=c&user=u", Host=None)[0] in (400, 421)
    # A form or script of another site, even with the cookie.
    body = {"client": "c", "user": "anna", "id": "x", "scene": name, "labels": {"water": 1}, "unclear": False}
    body |= {"seconds": 1.0, "suggested": None}
    for origin in (
        "http://evil.example",
        "null",
        None,
        page.base.replace("http:", "https:"),
        page.base + "1",
    ):
        assert caller("POST", "/api/answer", body, Origin=origin)[0] == 403, origin
    assert caller("POST", "/api/answer", body, Sec_Fetch_Site="cross-site")[0] == 403
    assert caller("POST", "/api/answer", body, Sec_Fetch_Site="same-site")[0] == 403
    assert caller("GET", "/scene/0", Sec_Fetch_Site="cross-site")[0] == 403
    assert caller("POST", "/api/answer", json.dumps(body).encode(), Content_Type="text/plain")[0] in (
        415,
        422,
    )
    assert caller.state()["labelled"] == 0
    # A tunnel to another port of this machine is nobody else's site.
    assert caller("GET", "/scene/0", Host="localhost:1")[0] == 200


def headers_keep_the_page_to_itself(page: Any) -> None:
    caller = Caller(page)
    for path in ("/", "/scene/0", "/api/agreement", "/nothing"):
        _, headers, _ = caller("GET", path)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def nothing_but_scenes(page: Any) -> None:
    caller = Caller(page)
    for path in (
        "/scene/6",
        "/scene/-1",
        "/scene/999999999999999999999999",
        "/scene/..%2f..%2fetc%2fpasswd",
        "/scene/../../../../etc/passwd",
        "/around/0",
        "/around/-1",
        "/..%2f",
    ):
        assert caller("GET", path)[0] in (404, 422), path
    status, reply = caller.answer("../../etc/passwd")
    assert status == 422
    assert "no scene" in reply["detail"]


def answers_that_are_none(page: Any, log: Path) -> None:
    caller = Caller(page)
    before, name = log.read_text(), caller.state()["scenes"][0]["name"]
    for changed in (
        {"labels": {"sea": 1}},
        {"labels": {"water": 7}},
        {"labels": {"water": 1, "forest": 1}},
        {"labels": {}},
        {"labels": "water"},
        {"seconds": -1},
        {"seconds": "NaN"},
        {"user": ""},
        {"user": "data"},
        {"user": "a\x00b"},
        {"user": "\ud800"},
        {"id": ""},
        {"id": "x" * 100},
        {"suggested": [["water", 7]]},
        {"unclear": True},
    ):
        assert caller.answer(name, **changed)[0] == 422, changed
    assert log.read_text() == before


def huge_or_broken_requests(page: Any) -> None:
    caller = Caller(page)
    assert caller("POST", "/api/answer", b"[" * 2_000_000)[0] in (400, 413, 422)
    assert caller("POST", "/api/answer", b"{nonsense")[0] == 422
    assert caller("POST", "/api/answer", b"[" * 100_000)[0] in (400, 422)
    assert caller("DELETE", "/api/answer", {})[0] == 405
    assert caller.state()["labelled"] == 0


def test_answers_survive_a_kill_and_the_table_reads_back(page: Any, serve: Any, tmp_path: Path) -> None:
    caller = Caller(page)
    names = []
    for _ in range(4):
        names.append(caller.state()["scenes"][0]["name"])
        assert caller.answer(names[-1])[0] == 200
    with pytest.raises(AssertionError, match="another `swath label`"):
        serve(tmp_path / "images", "--out", tmp_path / "labels.parquet")
    page.kill()
    again = serve(
        tmp_path / "images", "--out", tmp_path / "labels.parquet"
    )  # classes and kind are remembered
    caller = Caller(again)
    assert caller.state()["labelled"] == 4
    assert caller("POST", "/api/save", {})[0] == 200
    assert open_scenes(tmp_path / "labels.parquet").labels.exclusive
    while scenes := caller.state()["scenes"]:
        caller.answer(scenes[0]["name"], labels={"forest": 1})
    assert again.stop() == 0
    assert "6 of 6 scenes are labelled" in again.text
    labels = open_scenes(tmp_path / "labels.parquet").labels
    assert labels.counts()["present"].sum() == 6
    assert sorted(path.name for path in tmp_path.glob("labels*") if path.suffix != ".lock") == [
        "labels.answers.jsonl",
        "labels.parquet",
    ]


def an_image_that_cannot_be_read(page: Any) -> None:
    caller = Caller(page)
    scenes = page_scenes(caller)
    status, headers, body = caller("GET", f"/scene/{scenes['a<b>.png']}")
    assert (status, headers["content-type"]) == (422, "application/json")
    assert "is not an image" in json.loads(body)["detail"]
    assert caller.answer("a<b>.png", labels={}, unclear=True)[0] == 200


def page_scenes(caller: Caller) -> dict[str, int]:
    """All scenes: each of several pages holds some."""
    views = [caller.state(client=client) for client in "cdef"]
    return {scene["name"]: scene["position"] for view in views for scene in view["scenes"]}


def test_tls(images: Any, serve: Any, tmp_path: Path) -> None:
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            *PAIR,
        ],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no openssl program to make a certificate with")
    files = ["--tls-certificate", tmp_path / "certificate.pem", "--tls-key", tmp_path / "key.pem"]
    page = serve(images(2), "--classes", "water", "--out", tmp_path / "labels.parquet", *files)
    assert page.base.startswith("https://")
    caller = Caller(page, secure=True)
    status, headers, _ = caller("GET", f"/?token={page.token}")
    assert status == 200
    assert "Secure" in headers["set-cookie"]
    assert caller.answer(caller.state()["scenes"][0]["name"])[0] == 200
