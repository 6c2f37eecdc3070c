"""Open every file of folders with our readers: python -m tests.hostile.fuzz_files KIND FOLDER ...

Prints for each kind {"opened": n, "refused": n, "wrong": {name: why}, "peak_kib": n}; `wrong` is neither.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.measured import own_peak_kib
from vpipe.cache.foreign import ForeignFile
from vpipe.cache.records import DamagedFile
from vpipe.cache.sealed import SealedFile
from vpipe.errors import VpipeError
from vpipe.evaluation.annotations import read_truth
from vpipe.models.importer.checkpoint import read_checkpoint
from vpipe.models.importer.labels import read_labels
from vpipe.models.weights import read_weights
from vpipe.training.recipe import load_recipe

SECONDS_A_FILE = 20
MEMORY_BYTES = 2 << 30


def read_cache_file(path: Path) -> None:
    SealedFile(path).read([0])


def read_foreign_file(path: Path) -> None:
    with ForeignFile(path) as file:
        file.read([0])


READERS: dict[str, Callable[[Path], object]] = {
    "weights": read_weights,
    "checkpoint": read_checkpoint,
    "cache": read_cache_file,
    "foreign": read_foreign_file,
    "truth": read_truth,
    "labels": read_labels,
    "recipe": lambda path: load_recipe(str(path)),
}


def too_slow(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {SECONDS_A_FILE} s")


def main(kinds: dict[str, Path]) -> None:
    signal.signal(signal.SIGALRM, too_slow)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))
    print(json.dumps({kind: read_all(READERS[kind], folder) for kind, folder in kinds.items()}))


def read_all(read: Callable[[Path], object], folder: Path) -> dict[str, object]:
    opened = refused = 0
    wrong = {}
    for path in sorted(folder.iterdir()):
        signal.alarm(SECONDS_A_FILE)
        try:
            read(path)
            opened += 1
        except (VpipeError, DamagedFile) as fault:
            refused += 1
            if getattr(fault, "code", "") == "internal_error" or "\n" in str(fault):
                wrong[path.name] = f"says {fault}"
        except Exception as error:
            wrong[path.name] = f"{type(error).__name__}: {error}"
        signal.alarm(0)
    return {"opened": opened, "refused": refused, "wrong": wrong, "peak_kib": own_peak_kib()}


if __name__ == "__main__":
    main(dict(zip(sys.argv[1::2], map(Path, sys.argv[2::2]), strict=True)))
