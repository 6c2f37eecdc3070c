"""One bad video never stops a batch; the exit code and the envelope say how it went."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vpipe.cli.output import dump, plain
from vpipe.errors import one_line

from .conftest import FAKE_COMMAND

Fake = Callable[..., "subprocess.CompletedProcess[str]"]
ROW_KEYS = ["input", "video_id", "status", "duration_s", "frames", "width", "height", "warnings", "error"]


@pytest.mark.parametrize(
    ("fates", "code"),
    [
        ({"a.mp4": "ok", "b.mp4": "warn"}, 0),
        ({"a.mp4": "ok", "b.mp4": "bad"}, 3),
        ({"a.mp4": "bad", "b.mp4": "bug"}, 1),
        ({"a.mp4": "ok", "b.mp4": "full", "c.mp4": "ok"}, 1),
        ({"a.mp4": "ok", "b.mp4": "no cache", "c.mp4": "ok"}, 1),
        ({"a.mp4": "ok", "b.mp4": "usage", "c.mp4": "ok"}, 2),
        ({"a.mp4": "ok", "b.mp4": "SIGINT", "c.mp4": "ok"}, 130),
        ({"a.mp4": "ok", "b.mp4": "SIGTERM", "c.mp4": "ok"}, 143),
        ({"a.mp4": "ok", "b.mp4": "swallowed SIGTERM", "c.mp4": "ok"}, 143),
        ({"a.mp4": "ok", "b.mp4": "swallowed SIGINT", "c.mp4": "ok"}, 130),
        ({"a.mp4": "ok", "b.mp4": "swallowed SIGTERM then broken", "c.mp4": "ok"}, 143),
    ],
)
def test_exit_codes(fake: Fake, fates: dict[str, str], code: int) -> None:
    finished = fake(".", "--jsonl", fates=fates)
    assert finished.returncode == code, finished.stderr
    assert "Traceback" not in finished.stderr
    rows = [json.loads(line) for line in finished.stdout.splitlines()]
    if "c.mp4" in fates:
        # What was finished before the batch ended is there; what comes after it was not tried.
        assert rows[0]["input"].endswith("a.mp4")
        assert "c" not in [row["video_id"] for row in rows]
    else:
        assert [row["video_id"] for row in rows] == ["a", "b"]


@pytest.mark.parametrize("fate", ["SIGINT", "SIGTERM"])
def test_an_interrupted_json_run_still_prints_a_whole_document(fake: Fake, fate: str) -> None:
    finished = fake("a.mp4", "b.mp4", "--json", "--failures", "f", fates={"a.mp4": "ok", "b.mp4": fate})
    assert [row["video_id"] for row in json.loads(finished.stdout)["results"]] == ["a"]


def test_the_envelope_and_equal_bytes(fake: Fake) -> None:
    fates = {"a.mp4": "warn", "b.mp4": "bad"}
    first, second = (fake("a.mp4", "b.mp4", "--json", fates=fates) for _ in range(2))
    assert first.stdout == second.stdout
    document = json.loads(first.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert list(document) == ["schema", "model", "results", "failures"]
    assert document["schema"] == "vpipe.fake/1"
    assert document["model"] == {"name": "m"}
    (good,), (bad,) = document["results"], document["failures"]
    assert list(good)[: len(ROW_KEYS)] == list(bad) == ROW_KEYS
    assert good["duration_s"] == 0.333333
    assert good["warnings"] == [{"code": "vfr", "message": "the rate varies", "decoded": 3}]
    assert good["labels"] == [{"label": "pan_left", "score": None}]
    assert bad["error"] == {"code": "not_a_video", "message": "b.mp4: not a video"}


def test_csv_has_a_line_per_label(fake: Fake) -> None:
    finished = fake("a.mp4", "b.mp4", "--csv", fates={"a.mp4": "warn", "b.mp4": "bad"})
    good, bad = csv.DictReader(io.StringIO(finished.stdout))
    assert (good["video_id"], good["label"], good["warnings"]) == ("a", "pan_left", "vfr")
    assert (bad["status"], bad["error_code"], bad["label"]) == ("failed", "not_a_video", "")


def test_text_goes_to_stdout_and_everything_else_to_stderr(fake: Fake) -> None:
    finished = fake("a.mp4", "b.mp4", fates={"a.mp4": "warn", "b.mp4": "bad"})
    assert finished.stdout == "a fine\n"
    assert finished.stderr.splitlines() == [
        "vpipe: warning: a.mp4: the rate varies [vfr]",
        "vpipe: error: b.mp4: not a video [not_a_video]",
        "vpipe: 1 done, 1 failed",
    ]
    quiet = fake("a.mp4", "b.mp4", "-q")
    assert quiet.stderr == "vpipe: error: b.mp4: not a video [not_a_video]\n"


def test_a_bug_is_one_line_and_a_traceback_with_vv(fake: Fake, one_error: Callable[..., str]) -> None:
    one_error(fake("a.mp4", fates={"a.mp4": "bug"}), "a.mp4", "ZeroDivisionError", "[internal_error]")
    assert "Traceback" in fake("a.mp4", "-vv").stderr


def test_failures_are_written_and_read_back(fake: Fake, tmp_path: Path) -> None:
    fates = {"a.mp4": "ok", "b.mp4": "bad", "empty/notes.txt": ""}
    fake("a.mp4", "b.mp4", "gone*.mp4", "empty", "--failures", "f.jsonl", fates=fates)
    again = fake("--from-file", "f.jsonl", "--jsonl", "--failures", "f.jsonl", fates={"b.mp4": "ok"})
    assert [json.loads(line)["status"] for line in again.stdout.splitlines()] == ["ok", "failed", "failed"]
    assert again.returncode == 3
    left = [json.loads(line)["error"]["code"] for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert left == ["not_found", "no_videos"]
    (tmp_path / "f.jsonl").write_text("")
    nothing = fake("--from-file", "f.jsonl", "--json")
    assert nothing.returncode == 0
    assert json.loads(nothing.stdout)["results"] == []


def test_names_from_stdin(fake: Fake) -> None:
    fates = {"a.mp4": "ok", "b\nc.mp4": "ok"}
    finished = fake("--from-file", "-", "-0", "--jsonl", fates=fates, stdin=b"a.mp4\0b\nc.mp4\0")
    assert [json.loads(line)["video_id"] for line in finished.stdout.splitlines()] == ["a", "b\nc"]


def test_dry_run_opens_nothing(fake: Fake) -> None:
    finished = fake("a.mp4", "b.mp4", "--dry-run", fates={"a.mp4": "bad", "b.mp4": "full"})
    assert finished.returncode == 0
    assert finished.stdout == "a.mp4\ta\nb.mp4\tb\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--jobs", "0", "a.mp4"],
        ["--step", "x", "a.mp4"],
        ["--no-such-flag", "a.mp4"],
        ["--json", "--csv", "a.mp4"],
        ["-0", "a.mp4"],
        [],
    ],
)
def test_bad_flags_exit_2_with_one_line(
    fake: Fake, one_error: Callable[..., str], arguments: list[str]
) -> None:
    finished = fake(*arguments, fates={"a.mp4": "ok"})
    assert finished.returncode == 2
    assert finished.stdout == ""
    one_error(finished)
    assert len(finished.stderr.splitlines()) == 1


def test_settings_flag_beats_environment_beats_file_beats_default(fake: Fake, tmp_path: Path) -> None:
    def step_and_jobs(*arguments: str, **env: str) -> tuple[int, int]:
        finished = fake("a.mp4", *arguments, env=env, fates={"a.mp4": "ok"})
        settings = json.loads(finished.stdout)["results"][0]["settings"]
        return settings["step"], settings["jobs"]

    config = {"VPIPE_CONFIG": "my.toml"}
    (tmp_path / "my.toml").write_text("jobs = 3\njson = true\n[fake]\nstep = 7\n")
    assert step_and_jobs(**config) == (7, 3)
    assert step_and_jobs(**config, VPIPE_FAKE_STEP="8", VPIPE_JOBS="1") == (8, 1)
    assert step_and_jobs("--step", "9", "-j", "2", **config, VPIPE_FAKE_STEP="8", VPIPE_JOBS="1") == (9, 2)
    assert fake("a.mp4", "--jsonl", env=config).stdout.count("\n") == 1
    home = tmp_path / "home" / ".config" / "vpipe"
    home.mkdir(parents=True)
    (home / "config.toml").write_text("[fake]\nstep = 4\n")
    assert step_and_jobs("--json")[0] == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[fake]\nstepp = 1\n", "stepp"),
        ("stepp = 1\n", "stepp"),
        ("fake = 1\n", "table"),
        ("no toml", "not a readable settings file"),
        ("[fake]\nstep = 'x'\n", "settings file"),
        (None, "no such file"),
    ],
)
def test_a_bad_settings_file_is_named(
    fake: Fake, one_error: Callable[..., str], tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "my.toml").write_text(text)
    finished = fake("a.mp4", env={"VPIPE_CONFIG": "my.toml"}, fates={"a.mp4": "ok"})
    assert finished.returncode == 2
    one_error(finished, said)


def test_a_closed_pipe_is_quiet(fake: Fake, clean_environment: dict[str, str], tmp_path: Path) -> None:
    fake("--dry-run", ".", fates={f"{n}.mp4": "ok" for n in range(50)})
    command = [sys.executable, str(FAKE_COMMAND), "fake", "."]
    with subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read()
        assert running.wait(30) == 128 + signal.SIGPIPE
    assert said == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_the_machines_fault(
    fake: Fake, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    fake("--dry-run", ".", fates={"a.mp4": "ok"})
    with open("/dev/full", "w") as full:
        finished = subprocess.run(
            [sys.executable, str(FAKE_COMMAND), "fake", "."],
            cwd=tmp_path,
            env=clean_environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert finished.returncode == 1
    assert finished.stderr.splitlines() == [
        "vpipe: error: standard output: cannot be written: No space left on device [unwritable_output]"
    ]


def test_an_unwritable_failures_file_is_found_before_the_work(
    fake: Fake, one_error: Callable[..., str]
) -> None:
    finished = fake("a.mp4", "--failures", "a.mp4/f", fates={"a.mp4": "ok"})
    assert finished.returncode == 1
    assert finished.stdout == ""
    one_error(finished, "a.mp4", "[unwritable_output]")


def test_json_is_always_valid() -> None:
    assert dump({"x": float("inf"), "y": "\udcff", "z": (1, None, True)}) == (
        '{"x": null, "y": "\\\\xff", "z": [1, null, true]}'
    )
    with pytest.raises(TypeError, match="object has no JSON form"):
        plain(object())
    assert one_line("a\nb\x1b[0m") == "a\\nb\\x1b[0m"
