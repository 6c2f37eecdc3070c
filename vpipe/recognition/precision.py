"""Which precision `--dtype auto` means on a device."""

from __future__ import annotations

from pathlib import Path

FAST_BF16 = {"amx_bf16", "avx512_bf16"}  # of an x86 CPU that multiplies bfloat16 in hardware: tiles, vectors


def resolve_dtype(name: str, device: str) -> str:
    """`auto` is bf16 where the CPU multiplies it, two to three times as fast as fp32; else fp32."""
    if name != "auto":
        return name
    return "bf16" if device == "cpu" and FAST_BF16 & _cpu_flags() else "fp32"


def _cpu_flags() -> set[str]:
    """What Linux says the CPU can do; elsewhere nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.partition(":")[2].split())
