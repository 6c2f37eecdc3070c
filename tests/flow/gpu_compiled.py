"""The GPU engine's kernels through Triton's compiler and ptxas, which need no GPU: prints one line a kernel.

    python -m tests.flow.gpu_compiled 90        CUDA architecture 9.0

What the interpreter runs, the compiler may refuse: a process of its own, with TRITON_INTERPRET unset.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

POINTERS = {"first": "*i32", "second": "*i32", "present": "*i32", "shown": "*i32", "state": "*i32"}
NUMBERS = {"tl.int32": "i32", "tl.float32": "fp32"}


def kernels() -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every kernel with every constant it is started with."""
    from vpipe.flow import gpu_kernels, gpu_median, gpu_pictures, gpu_sweep

    yield gpu_pictures.reduce, {}
    for five_point in (False, True):
        yield gpu_pictures.texture, {"FIVE_POINT": five_point}
    for weighted in (False, True):
        for measured in (False, True):
            for coarsest in (False, True):
                yield (
                    gpu_kernels.begin,
                    {"COARSEST": coarsest, "WEIGHTED": weighted, "MEASURED": measured},
                )
            for stages in (1, gpu_sweep.MOST_STAGES - 1, gpu_sweep.MOST_STAGES):
                constants = {"WEIGHTED": weighted, "MEASURED": measured, "STAGES": stages}
                yield gpu_sweep.sweep, {**constants, "COLUMNS": gpu_sweep.STRIP_COLUMNS}
    for measured in (False, True):
        for zero_outside in (False, True):
            yield gpu_kernels.linearise, {"ZERO_OUTSIDE": zero_outside, "MEASURED": measured}
        for size in (3, 5):
            for everyone in (False, True):
                constants = {"SIZE": size, "MEASURED": measured, "EVERYONE": everyone}
                yield gpu_median.median, constants
        yield gpu_kernels.finish, {"MEASURED": measured}
    yield gpu_sweep.begin_block, {}
    yield gpu_sweep.judge, {}


def compiled(kernel: Any, constants: dict[str, Any], architecture: int, pictures: str) -> Any:
    """The kernel for `pictures`, "*u8" or "*fp32"."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vpipe.flow.gpu_planes import TILE

    warps = TILE["num_warps"] if "ROWS" in kernel.arg_names else 1
    constants = {k: TILE[k] for k in ("ROWS", "COLUMNS") if k in kernel.arg_names} | constants
    pointers = {**POINTERS, "finer": pictures, "pictures": pictures}
    kinds = kernel.fn.__annotations__
    signature = {
        name: "constexpr"
        if name in constants
        else NUMBERS.get(kinds.get(name, ""), pointers.get(name, "*fp32"))
        for name in kernel.arg_names
    }
    aligned = {
        (number,): [["tt.divisibility", 16]]
        for number, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*")
    }
    source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
    target = GPUTarget("cuda", architecture, 32)
    return triton.compile(source, target=target, options={"num_warps": warps})


def main() -> None:
    architecture = int(sys.argv[1])
    for kernel, constants in kernels():
        for pictures in ("*u8", "*fp32") if {"finer", "pictures"} & set(kernel.arg_names) else ("*fp32",):
            made = compiled(kernel, constants, architecture, pictures)
            print(kernel.fn.__name__, constants, pictures, len(made.asm["cubin"]))


if __name__ == "__main__":
    main()
