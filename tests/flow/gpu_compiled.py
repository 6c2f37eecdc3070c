"""The GPU engine's kernels through Triton's compiler and ptxas, which need no GPU: prints one line a kernel.

    python -m tests.flow.gpu_compiled 90        CUDA architecture 9.0

What the interpreter runs, the compiler may refuse: a process of its own, with TRITON_INTERPRET unset.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

POINTERS = {"first": "*i32", "second": "*i32", "present": "*i32", "finished": "*i32", "iterations": "*i32"}
NUMBERS = {"tl.int32": "i32", "tl.float32": "fp32"}


def kernels() -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every kernel with every constant it is started with."""
    from vpipe.flow import gpu_kernels, gpu_median, gpu_pictures

    yield gpu_pictures.reduce, {}
    for five_point in (False, True):
        yield gpu_pictures.texture, {"FIVE_POINT": five_point}
    for weighted in (False, True):
        for coarsest in (False, True):
            yield gpu_kernels.begin, {"COARSEST": coarsest, "WEIGHTED": weighted}
        for side in (0, 1):
            for measured in (False, True):
                constants = {"FROM": side, "WEIGHTED": weighted, "MEASURED": measured}
                yield gpu_kernels.iterate, {**constants, "MARCH": gpu_kernels.MARCH}
    for measured in (False, True):
        for zero_outside in (False, True):
            yield gpu_kernels.linearise, {"ZERO_OUTSIDE": zero_outside, "MEASURED": measured}
        for size in (3, 5):
            yield gpu_median.median, {"SIZE": size, "MEASURED": measured}
    yield gpu_kernels.finish, {}


def compiled(kernel: Any, constants: dict[str, Any], architecture: int, pictures: str) -> Any:
    """The kernel for `pictures`, "*u8" or "*fp32"."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from vpipe.flow.gpu_planes import TILE

    constants = {"ROWS": TILE["ROWS"], "COLUMNS": TILE["COLUMNS"], **constants}
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
    return triton.compile(source, target=target, options={"num_warps": TILE["num_warps"]})


def main() -> None:
    architecture = int(sys.argv[1])
    for kernel, constants in kernels():
        for pictures in ("*u8", "*fp32") if {"finer", "pictures"} & set(kernel.arg_names) else ("*fp32",):
            made = compiled(kernel, constants, architecture, pictures)
            print(kernel.fn.__name__, constants, pictures, len(made.asm["cubin"]))


if __name__ == "__main__":
    main()
