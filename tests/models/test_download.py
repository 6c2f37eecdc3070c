"""Downloads from a server on this machine: whole, cut short, resumed, wrong, too large."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from vpipe.errors import EnvironmentFault, UsageError
from vpipe.models import download, load_model
from vpipe.models.catalogue import ENTRIES, Entry, find
from vpipe.models.importer.labels import packaged_lists
from vpipe.models.registry import ARCHITECTURES, build

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` under any name; `cut` bytes at most in an answer, `ranges` understood or not."""

    content: bytes = CONTENT
    cut: int | None = None
    ranges = True
    claimed: int | None = None
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        whole = self.server.content
        if start >= len(whole):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(self.server.claimed or len(whole) - start))
        self.end_headers()
        self.wfile.write(whole[start:][: self.server.cut])

    def log_message(self, *_: Any) -> None:
        """Nothing on the test's stderr."""


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server(("127.0.0.1", 0), Handler)
    one.asked = []
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()
    thread.join()


def entry(server: Server, name: str = "a.pth", **more: Any) -> Entry:
    url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
    return Entry("a", url, "tsm", "rgb", None, "none", "", "a test", **more)


def test_the_full_hash_is_recorded_and_then_compared(server: Server, tmp_path: Path) -> None:
    got = download.fetch(entry(server), tmp_path)
    assert (got.path.read_bytes(), got.sha256, got.fetched) == (CONTENT, SHA256, True)
    assert got.checked.startswith("nothing")
    assert (tmp_path / "a.pth.sha256").read_text() == f"{SHA256}  a.pth\n"
    again = download.fetch(entry(server), tmp_path)
    assert (again.fetched, len(server.asked)) == (False, 1)
    assert "recorded" in again.checked
    got.path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(UsageError, match="does not agree with the SHA-256 recorded"):
        download.fetch(entry(server), tmp_path)
    assert not got.path.exists()


def test_published_hashes_and_those_in_names(server: Server, tmp_path: Path) -> None:
    named = f"r-{SHA256[:8]}.pth"
    assert "name" in download.fetch(entry(server, named), tmp_path).checked
    published = entry(server, "b.pth", sha256=SHA256, hash_source="a page")
    assert "a page" in download.fetch(published, tmp_path).checked
    for wrong in (entry(server, "c.pth", sha256="0" * 64), entry(server, "d-00000000.pth")):
        with pytest.raises(UsageError) as caught:
            download.fetch(wrong, tmp_path)
        assert caught.value.code == "wrong_hash"
        assert not (tmp_path / wrong.file_name).exists()
        assert not (tmp_path / f"{wrong.file_name}.part").exists()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.cut, server.ranges = 300_000, ranges
    with pytest.raises(EnvironmentFault, match="300000 of 1048576 bytes; run it again") as caught:
        download.fetch(entry(server), tmp_path)
    assert caught.value.code == "download_truncated"
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth.part"]
    server.cut = None
    assert download.fetch(entry(server), tmp_path).sha256 == SHA256
    assert server.asked == [None, "bytes=300000-"]


def test_a_part_that_is_whole_already(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.pth.part").write_bytes(CONTENT)
    assert download.fetch(entry(server, sha256=SHA256), tmp_path).sha256 == SHA256


def test_too_large_by_its_claim_or_in_truth(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MOST_BYTES", 1 << 19)
    for claimed in (None, 1000):  # a server that says too little is cut off by the client, at what it said
        server.claimed = claimed
        if claimed is None:
            with pytest.raises(EnvironmentFault) as caught:
                download.fetch(entry(server), tmp_path)
            assert caught.value.code == "download_too_large"
            assert not (tmp_path / "a.pth").exists()
        else:
            with pytest.raises(UsageError, match="does not agree"):
                download.fetch(entry(server, "b.pth", sha256=SHA256), tmp_path)


def test_servers_that_fail(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="404"):
        download.fetch(entry(server, "missing.pth"), tmp_path)
    closed = entry(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(EnvironmentFault, match="run it again") as caught:
        download.fetch(closed, tmp_path)
    assert caught.value.code == "download_failed"
    with pytest.raises(EnvironmentFault, match="not an http address"):
        download.fetch(closed, tmp_path, url="file:///etc/passwd")


def theirs(architecture: str, hyper: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A small network under the keys of temporal-shift-module."""
    state = {}
    for key, value in build(architecture, hyper).state_dict().items():
        key = key.replace("backbone.", "module.base_model.").replace("fc.", "module.new_fc.")
        key = re.sub(r"(layer\d\.\d+)\.conv1\.conv\.", r"\1.conv1.net.", key)
        key = re.sub(r"conv(\d)\.conv\.", r"conv\1.", key)
        key = re.sub(r"conv(\d)\.bn\.", r"bn\1.", key)
        key = key.replace("downsample.conv.", "downsample.0.").replace("downsample.bn.", "downsample.1.")
        state[key] = value
    return state


def test_from_the_shell_to_a_weight_file(server: Server, vpipe: Callable[..., Any], tmp_path: Path) -> None:
    state = theirs("tsm", {"classes": 400, "width": 8, "blocks": [1, 1, 1, 1]})
    torch.save({"state_dict": state}, tmp_path / "content")
    server.content = (tmp_path / "content").read_bytes()
    url = f"http://127.0.0.1:{server.server_address[1]}/x"
    finished = vpipe("models", "download", "tsm-r50-kinetics400", "--to", "z", "--url", url)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "z/tsm-r50-kinetics400.safetensors\n"
    assert "checked against nothing: no hash is published; it is recorded now" in finished.stderr
    assert "next: vpipe classify VIDEO --model z/tsm-r50-kinetics400.safetensors" in finished.stderr
    model = load_model(tmp_path / "z" / "tsm-r50-kinetics400.safetensors")
    assert (model.labels[0], model.streams[0].frames) == ("abseiling", 8)
    finished = vpipe("models", "download", "tsm-r50-kinetic")
    assert finished.returncode == 2
    assert "did you mean tsm-r50-kinetics400?" in finished.stderr


def test_the_catalogue_is_in_order() -> None:
    assert len({one.name for one in ENTRIES}) == len(ENTRIES)
    for one in ENTRIES:
        assert one.url.startswith("https://")
        assert one.architecture in ARCHITECTURES
        assert one.labels is None or one.labels in packaged_lists()
        assert one.sha256 is None or re.fullmatch("[0-9a-f]{64}", one.sha256)
        assert one.source
    assert find("r2plus1d-18-kinetics400").hash_prefix == "91a641e6"
    assert find("tsm-r50-kinetics400-mmaction2").hash_prefix == "020785e2"
    assert find("tsm-r50-kinetics400").hash_prefix is None
