"""Ctrl-C in training: over in two seconds, with the state of the last whole step, whatever a step is at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import CHECKOUT

ENDS_WITHIN_S, BUSY_S = 2.0, 6.0
HANGS_AT = 3  # batch; the second one of a step
# What batch HANGS_AT does: native code that does not let go, or Python that does.
PLACES = {
    "native": "m = (ctypes.c_char * 64)(); lock = ctypes.CDLL(None).pthread_mutex_lock; lock(m); lock(m)",
    "python": "time.sleep(1000)",
}
SCRIPT = """
import ctypes, sys, time
from pathlib import Path
import torch
from dataclasses import replace
from tests.training.test_train import RECIPE, Moving
from vpipe.cli import interrupt, train as command
from vpipe.training.loop import train

class Hangs(Moving):
    def __getitem__(self, number):
        if number == {at} and {hangs}:
            print("hangs", flush=True)
            {place}
        return super().__getitem__(number)

recipe = replace(RECIPE, accumulate=2)
torch.set_num_threads(1)
command.SAVE_S = 30.0  # on a busy machine; what is measured is how long it takes
interrupt.watch()
command._end_in_time()
network, step, finished = train(recipe, Hangs(recipe), 2, Path(sys.argv[1]), workers=0, log_every=1,
                                checkpoint_every_s=1000, resume=not {hangs})
torch.save(network.state_dict(), Path(sys.argv[1]) / "end.pt")
sys.exit(0 if finished else 130)
"""


def start(folder: Path, place: str, *, hangs: bool) -> subprocess.Popen[str]:
    code = SCRIPT.format(at=HANGS_AT, hangs=hangs, place=PLACES[place])
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("place", PLACES)
def test_a_step_that_lasts_is_given_up(tmp_path: Path, place: str) -> None:
    running = start(tmp_path / "run", place, hangs=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "hangs\n"
    time.sleep(1)  # then it does
    begin = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    took = time.monotonic() - begin
    assert running.returncode == 130, said
    assert took < ENDS_WITHIN_S + BUSY_S
    assert "Traceback" not in said
    assert ("--resume" in said) == (place == "native")  # else the command itself says so
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert (kept["step"], kept["batches"]) == (HANGS_AT // 2, HANGS_AT - 1)


@pytest.mark.slow
def test_what_is_resumed_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Batch norms have then counted a batch of a step that was not."""
    running = start(tmp_path / "run", "native", hangs=True)
    assert running.stdout is not None
    running.stdout.readline()
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    ends = []
    for folder in (tmp_path / "run", tmp_path / "other"):
        again = start(folder, "native", hangs=False)
        _, said = again.communicate(timeout=100)
        assert again.returncode == 0, said
        ends.append(torch.load(folder / "end.pt", weights_only=True))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
