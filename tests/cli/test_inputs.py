"""From arguments to items: order, folders, globs, lists, and ids that never clash."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Vpipe
from vpipe.cli.inputs import Item, display_name, failure_row_key, find_items, read_list, video_ids
from vpipe.cli.output import write_whole
from vpipe.errors import UsageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(items: list[Item]) -> list[tuple[str, str]]:
    return [(item.display, item.video_id) for item in items]


def ids(*paths: str) -> list[str]:
    return video_ids([Item(Path(p), display_name(p), "") for p in paths])


def test_a_folder_gives_its_videos_sorted_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "b.MP4", "a.mkv", "notes.txt", ".hidden.mp4", ".git/x.mp4", "deep/er/c.webm")
    found = find_items([str(tmp_path)])
    assert [item.path.relative_to(tmp_path).as_posix() for item in found] == [
        "a.mkv",
        "b.MP4",
        "deep/er/c.webm",
    ]
    assert [item.video_id for item in found] == ["a", "b", "c"]


def test_a_file_is_taken_whatever_its_extension_and_a_missing_one_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "film.xyz")
    monkeypatch.chdir(tmp_path)
    assert names(find_items(["film.xyz", "gone.mp4"])) == [("film.xyz", "film"), ("gone.mp4", "gone")]


def test_quoted_globs_and_names_that_look_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.mp4", "a/2.mp4", "b/3.mp4", "[x].mp4")
    monkeypatch.chdir(tmp_path)
    assert names(find_items(["a/*.mp4"])) == [("a/1.mp4", "1"), ("a/2.mp4", "2")]
    assert [i.display for i in find_items(["**/*.mp4"])] == ["[x].mp4", "a/1.mp4", "a/2.mp4", "b/3.mp4"]
    assert names(find_items(["[x].mp4"])) == [("[x].mp4", "[x]")]
    (nothing,) = find_items(["z*.mp4"])
    assert nothing.fault is not None
    assert nothing.fault.code == "not_found"


def test_a_folder_without_videos_is_a_failed_item(tmp_path: Path) -> None:
    (item,) = find_items([str(tmp_path)])
    assert item.fault is not None
    assert item.fault.code == "no_videos"
    assert str(tmp_path) in item.fault.message


def test_the_same_file_named_twice_is_one_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.mp4")
    monkeypatch.chdir(tmp_path)
    assert names(find_items(["a.mp4", "./a.mp4", str(tmp_path / "a.mp4")])) == [("a.mp4", "a")]


def test_no_inputs_and_a_dash_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="no input given"):
        find_items([])
    with pytest.raises(UsageError, match="--from-file -"):
        find_items(["-"])


def test_lists_by_line_by_nul_and_from_a_failures_file(tmp_path: Path) -> None:
    listing = tmp_path / "list"
    listing.write_bytes(b"a b.mp4\n\nc\xff.mp4\r\n")
    assert read_list(str(listing), null=False) == ["a b.mp4", "c\udcff.mp4"]
    listing.write_bytes(b"a\nb.mp4\0{c.mp4\0")
    assert read_list(str(listing), null=True) == ["a\nb.mp4", "{c.mp4"]
    rows = [{"input": "a.mp4", "error": {}}, {"input": "c\\xff.mp4", "input_hex": b"c\xff.mp4".hex()}]
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_list(str(listing), null=False) == ["a.mp4", "c\udcff.mp4"]
    listing.write_text("{not json\n")
    with pytest.raises(UsageError, match="failures file"):
        read_list(str(listing), null=False)
    with pytest.raises(UsageError, match=r"gone: cannot be read: No such file"):
        read_list(str(tmp_path / "gone"), null=False)


def test_an_id_is_the_stem_unless_stems_clash() -> None:
    assert ids("/v/a.mp4", "/v/b.c.mkv") == ["a", "b.c"]
    assert ids("/v/x/a.mp4", "/v/y/a.mp4", "/v/b.mp4") == ["x/a", "y/a", "b"]
    assert ids("/v/a.mp4", "/v/a.mkv") == ["a.mp4", "a.mkv"]
    assert ids("/v/a.mp4", "/v/x/a.mkv") == ["a", "x/a"]


def test_names_that_are_not_utf8_are_escaped_and_found_again() -> None:
    path = Path(os.fsdecode(b"/v/caf\xe9.mp4"))
    item = Item(path, display_name(path), "")
    assert item.display == "/v/caf\\xe9.mp4"
    assert video_ids([item]) == ["caf\\xe9"]
    assert bytes.fromhex(failure_row_key(item)["input_hex"]) == b"/v/caf\xe9.mp4"
    assert failure_row_key(Item(Path("./é.mp4"), "./é.mp4", "")) == {}


PARTS = st.sampled_from(["a", "b", "a.mp4", "a.mkv", "a.b", "a~2", "~", "\\xff", "\udcff", " ", "é"])
SUFFIXES = st.sampled_from(["", ".mp4", ".mkv", ".mp4.mkv"])
PATHS = st.builds(lambda parts, suffix: "/" + "/".join(parts) + suffix, st.lists(PARTS, min_size=1), SUFFIXES)


@given(st.lists(PATHS, min_size=1, max_size=8, unique=True))
def test_ids_are_distinct_valid_and_stay_inside_an_output_folder(paths: list[str]) -> None:
    found = ids(*paths)
    assert len(set(found)) == len(paths)
    for name in found:
        name.encode("utf-8")
        assert name
        assert not name.startswith("/")
        assert ".." not in name.split("/")


@given(st.lists(PATHS, min_size=2, max_size=6, unique=True))
def test_ids_do_not_depend_on_the_order_of_inputs_unless_only_invalid_bytes_differ(paths: list[str]) -> None:
    forward = dict(zip(paths, ids(*paths), strict=True))
    backward = dict(zip(reversed(paths), ids(*reversed(paths)), strict=True))
    if not any("~" in name for name in forward.values()):
        assert forward == backward


def test_a_list_names_files_and_no_patterns(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    listed = tmp_path / "list"
    listed.write_bytes(b"*.mp4\nnul\0byte.mp4\n" + b"[" * 100_000 + b"\n")
    assert [len(item.display) for item in find_items([], str(listed))] == [
        5,
        len("nul\0byte.mp4"),
        100_000,
    ]
    listed.write_text('{"input":' * 100_000)
    with pytest.raises(UsageError, match="no JSON row"):
        find_items([], str(listed))


def test_outputs_do_not_replace_inputs(vpipe: Vpipe, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4")
    before = clip.read_bytes()
    for arguments in (["check", "a.mp4", "--failures", "./a.mp4"], ["detect", "a.mp4", "--anet", "a.mp4"]):
        done = vpipe(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert "output_is_input" in done.stderr
    assert clip.read_bytes() == before


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(fifo, "rows\n")
    assert os.read(reader, 100) == b"rows\n"
    os.close(reader)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert os.listdir(tmp_path) == ["fifo"]
