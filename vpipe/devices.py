"""Where networks run: `auto`, `cpu`, `cuda` or `cuda:N`, checked before any input is touched."""

from __future__ import annotations

import re
from pathlib import Path

from vpipe.errors import UsageError

# One of these is there wherever Linux runs a CUDA driver (the last one under WSL).
_DRIVERS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")


def resolve_device(name: str) -> str:
    """The torch device for `name`: "cpu" or "cuda:N".

    `auto` takes the first CUDA device where there is one, otherwise the CPU. A device that was named and is
    not there raises UsageError (`unknown_device`, `no_such_device`): there is no silent fallback.
    """
    if name == "cpu":
        return "cpu"
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if match is None and name != "auto":
        raise UsageError("unknown_device", f"--device {name}: not a device; use auto, cpu, cuda or cuda:N")
    if match is None and not any(Path(driver).exists() for driver in _DRIVERS):
        return "cpu"
    import torch  # here, because it takes a second to import

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if match is None:
        return "cuda:0" if count else "cpu"
    index = int(match[1] or 0)
    if index >= count:
        found = f"{count} CUDA device{'s' if count != 1 else ''} found" if count else "no CUDA device found"
        raise UsageError("no_such_device", f"--device {name}: {found}; use --device cpu or --device auto")
    return f"cuda:{index}"
