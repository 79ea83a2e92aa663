"""Scenes on a server: mapped if that is allowed by name, and otherwise never asked for."""

import http.server
import json
import pickle
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swath
from swath.errors import RunError, SceneError
from swath.scenes.remote import RemoteFile


class Server:
    """Serves files and answers requests for parts; remembers what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.ranges = True
        self.break_after = 10**9
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked.append(self.path)
                content = server.files.get(self.path.partition("?")[0])
                if content is None or len(server.asked) > server.break_after:
                    self.send_error(404 if content is None else 500)
                    return
                part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                whole = len(content)
                if part and server.ranges:
                    first, last = int(part[1]), min(int(part[2] or whole - 1), whole - 1)
                    content = content[first : last + 1]
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                if server.ranges:
                    self.send_header("Accept-Ranges", "bytes")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.mark.parametrize(
    "form", ["http://{}/2019/a.tif", "/vsicurl/http://{}/2019/a.tif", "HTTP://{}/2019/a.tif"]
)
def test_a_remote_scene_is_mapped_like_the_local_one(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path, server: Server, form: str
) -> None:
    server.files["/2019/a.tif"] = scene.read_bytes()
    address = form.format(server.host)
    entry = swath.map_scenes(linear_run, [address], out=tmp_path / "maps", stride=16, allow_remote=True).maps[
        0
    ]
    local = swath.map_scenes(linear_run, [scene], out=tmp_path / "local", stride=16).maps[0]
    assert entry.name == "a"
    for kind in ("probability", "labels", "uncertainty"):
        np.testing.assert_array_equal(make.read(entry.files[kind]), make.read(local.files[kind]))
    assert set(server.asked) == {"/2019/a.tif"}, "something else was asked for"
    item = json.loads(entry.files["item"].read_text())
    assert [link["href"] for link in item["links"]] == [f"http://{server.host}/2019/a.tif"]
    assert item["properties"]["datetime"] is None
    assert item["properties"]["swath:datetime_from"] == "not known"
    again = swath.map_scenes(linear_run, [address], out=tmp_path / "maps", stride=16, allow_remote=True)
    assert again.maps[0].windows == 0


def test_what_a_server_holds_now_counts(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path, server: Server
) -> None:
    server.files["/a.tif"] = scene.read_bytes()
    address, out = f"http://{server.host}/a.tif", tmp_path / "maps"
    swath.map_scenes(linear_run, [address], out=out, stride=16, allow_remote=True)
    pixels = make.read(scene)
    pixels[0, 3, 3] += 1
    server.files["/a.tif"] = make.reflectance(tmp_path / "changed.tif", pixels).read_bytes()
    with pytest.raises(RunError, match="the scene has changed"):
        swath.map_scenes(linear_run, [address], out=out, stride=16, allow_remote=True)


def test_one_band_files_on_a_server_are_joined(
    make: Any, tmp_path: Path, linear_run: Path, server: Server
) -> None:
    pixels = make.noise(100, 120)
    told = {"scales": (1e-4,), "units": ("reflectance",), "nodata": 0}
    for band, values in zip(make.BANDS, pixels, strict=True):
        path = make.scene(tmp_path / "scene.tif", values[None], **told)
        server.files[f"/T33_{band}.tif"] = path.read_bytes()
    addresses = [f"http://{server.host}{name}" for name in server.files]
    entry = swath.map_scenes(linear_run, addresses, out=tmp_path / "maps", stride=16, allow_remote=True).maps[
        0
    ]
    assert entry.name == "T33"
    found = make.read(entry.files["probability"])
    np.testing.assert_allclose(found * 1e-4, make.by_hand(pixels, make.model(), 16), atol=0.5e-4 + 1e-6)
    assert set(server.asked) == set(server.files)


def test_two_dates_on_a_server(
    make: Any, tmp_path: Path, linear_run: Path, scene: Path, server: Server
) -> None:
    for year in (2019, 2021):
        server.files[f"/{year}/scene.tif"] = scene.read_bytes()
    first, second = (f"http://{server.host}{name}" for name in server.files)
    summary = swath.map_scenes(
        linear_run, before=first, after=second, out=tmp_path / "maps", stride=16, allow_remote=True
    )
    assert [entry.name for entry in summary.maps] == ["2019-scene", "2021-scene"]
    assert summary.change is not None
    assert summary.change.summary.changes == []


def test_without_the_permission_no_server_is_asked(
    tmp_path: Path, linear_run: Path, scene: Path, server: Server
) -> None:
    server.files["/a.tif"] = scene.read_bytes()
    address = f"http://me:secret@{server.host}/a.tif?token=secret"
    for options in (
        {"scenes": [address]},
        {"before": address, "after": scene},
        {"before": scene, "after": address},
    ):
        with pytest.raises(SceneError, match=r"is not a local file.*--allow-remote") as caught:
            swath.map_scenes(linear_run, out=tmp_path / "maps", stride=16, **options)  # type: ignore[arg-type]
        assert "secret" not in str(caught.value)
    assert server.asked == []
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    "address",
    [
        "ftp://{}/a.tif",
        "file:///etc/passwd",
        "/vsicurl/file:///etc/passwd",
        "/vsicurl?header_file=/etc/passwd&url=http://{}/a.tif",
        "/vsizip//vsicurl/http://{}/a.zip/a.tif",
        "/vsicurl_streaming/http://{}/a.tif",
        "//vsicurl/http://{}/a.tif",
        "/vsigzip//vsicurl/http://{}/a.tif",
        "GTIFF_DIR:1:/vsicurl/http://{}/a.tif",
        "WMS:http://{}/",
        "vrt:///vsicurl/http://{}/a.tif",
        "http://",
        "http:// {}/a.tif",
        "http://{}/a.tif\n",
        "s3://",
        "/vsistdin/",
    ],
)
def test_other_ways_to_a_server_stay_closed(
    tmp_path: Path, linear_run: Path, scene: Path, server: Server, address: str
) -> None:
    server.files["/a.tif"] = scene.read_bytes()
    with pytest.raises(SceneError, match=r"is no address that swath opens\. Give one that begins with http"):
        swath.map_scenes(
            linear_run, [address.format(server.host)], out=tmp_path / "maps", stride=16, allow_remote=True
        )
    assert server.asked == []
    assert not (tmp_path / "maps").exists()


def test_secrets_in_an_address_are_sent_but_not_kept_or_shown(
    tmp_path: Path, linear_run: Path, scene: Path, server: Server
) -> None:
    server.files["/a.tif"] = scene.read_bytes()
    out = tmp_path / "maps"
    address = f"http://me:hush@{server.host}/a.tif?token=hush"
    summary = swath.map_scenes(linear_run, [address], out=out, stride=16, allow_remote=True)
    assert set(server.asked) == {"/a.tif?token=hush"}
    assert "hush" not in str(summary)
    assert not [path.name for path in out.iterdir() if b"hush" in path.read_bytes() or "hush" in path.name]
    for missing in (address.replace("a.tif", "b.tif"), address.replace(server.host, "127.0.0.1:1")):
        with pytest.raises(SceneError, match=r"cannot be opened as TIFF.*Check the address") as caught:
            swath.map_scenes(linear_run, [missing], out=tmp_path / "other", stride=16, allow_remote=True)
        assert "hush" not in str(caught.value)
        assert not (tmp_path / "other").exists()


def test_servers_that_do_not_do_their_part(
    make: Any, tmp_path: Path, linear_run: Path, server: Server
) -> None:
    big = make.reflectance(tmp_path / "big.tif", make.noise(1000, 1200))
    server.files |= {"/a.tif": big.read_bytes(), "/page.tif": b"<html>" * 100, "/empty.tif": b""}
    server.files["/a.vrt"] = b'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand/></VRTDataset>'

    def refused(name: str) -> str:
        with pytest.raises(SceneError) as caught:
            swath.map_scenes(
                linear_run,
                [f"http://{server.host}/{name}"],
                out=tmp_path / "maps",
                stride=16,
                allow_remote=True,
                allow_vrt=True,
            )
        assert not list((tmp_path / "maps").glob("[!.]*"))
        return str(caught.value)

    for name in ("page.tif", "empty.tif", "a.vrt", "none.tif"):
        assert "cannot be opened as TIFF" in refused(name)
    server.ranges = False
    assert f"{server.host}/a.tif" in refused("a.tif")
    server.ranges = True
    swath.map_scenes(
        linear_run, [f"http://{server.host}/a.tif"], out=tmp_path / "whole", stride=16, allow_remote=True
    )
    server.break_after = len(server.asked) + 12
    assert f"{server.host}/a.tif" in refused("a.tif")


def test_a_bucket_at_an_endpoint(
    make: Any,
    tmp_path: Path,
    linear_run: Path,
    scene: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (
        ("AWS_S3_ENDPOINT", server.host),
        ("AWS_HTTPS", "NO"),
        ("AWS_VIRTUAL_HOSTING", "FALSE"),
        ("AWS_NO_SIGN_REQUEST", "YES"),
    ):
        monkeypatch.setenv(name, value)
    server.files["/bucket/b/a.tif"] = scene.read_bytes()
    for number, address in enumerate(("s3://bucket/b/a.tif", "/vsis3/bucket/b/a.tif")):
        out = tmp_path / str(number)
        entry = swath.map_scenes(linear_run, [address], out=out, stride=16, allow_remote=True).maps[0]
        assert entry.name == "a"
        assert entry.ground_ha == pytest.approx(200 * 230 / 100)
    assert set(server.asked) == {"/bucket/b/a.tif"}


def test_a_remote_file_travels_to_other_processes() -> None:
    file = RemoteFile("https://host/a/b.tif?x=1")
    assert pickle.loads(pickle.dumps(file)) == file
