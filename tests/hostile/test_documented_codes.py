"""Every code that the commands over videos can give is in docs/reliability.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.test_fuzz_videos import documented_codes

CHECKOUT = Path(__file__).resolve().parents[2]
FILES = (
    *("media/*.py", "cache/entry.py", "cache/plan.py", "cache/keys.py", "cache/files.py", "cli/run.py"),
    *("cli/inputs.py", "cli/output.py", "cli/check.py", "cli/extract.py", "recognition/classify.py"),
    *("recognition/one_pass.py", "recognition/snippets.py"),
)
KINDS = {"InputError", "EnvironmentFault", "Warning_"}


def codes_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
        first = node.args[0]
        literal = isinstance(first, ast.Constant) and isinstance(first.value, str)
        if literal and (name in KINDS or name == "_warn"):
            yield first.value  # type: ignore[attr-defined]


def test_every_code_is_documented() -> None:
    paths = [path for pattern in FILES for path in (CHECKOUT / "vpipe").glob(pattern)]
    assert len(paths) > 20
    given = {code: path.name for path in paths for code in codes_in(path)}
    assert {"too_large", "ends_early", "decoder_crashed", "vfr"} <= given.keys()
    unknown = {code: where for code, where in given.items() if code not in documented_codes()}
    assert unknown == {}
