"""The document of the comparison as a table: for a terminal, or in Markdown."""

from __future__ import annotations

from typing import Any

HEAD = (
    "model", "motion from", "M param.", "GMACs", "ms/clip", "flow s/min", "flow MB/min",
    "direction", "order", "shuffled", "reversed", "rev., own label",
)  # fmt: skip


def cells(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """HEAD and a line for each row of the document. Accuracies are top-1 of all labels, percent [95 %].

    `shuffled` and `reversed` are those of the direction labels by the label of the clip as it was played;
    the last column counts a reversed clip right where it gets the label of the motion that it now shows.
    """
    rows: list[tuple[str, ...]] = [HEAD]
    for row in document["rows"]:
        accuracy = row["accuracy"]
        rows.append(
            (
                row["title"],
                row["motion"],
                f"{row['parameters'] / 1e6:.2f}",
                f"{row['gmacs']:.3f}",
                f"{row['ms_a_clip']:.1f}",
                f"{row['flow_s_a_minute']:.1f}",
                f"{row['flow_bytes_a_minute'] / 1e6:.2f}",
                _percent(accuracy["played"]["direction"]["top1"]),
                _percent(accuracy["played"]["order"]["top1"]),
                _short(accuracy["shuffled"]["direction"]["top1"]),
                _short(accuracy["reversed"]["direction"]["top1"]),
                _short(accuracy["reversed_own_label"]["direction"]["top1"]),
            )
        )
    return rows


def length_cells(document: dict[str, Any]) -> list[tuple[str, ...]]:
    """Top-1 of the order labels, percent, over the length of the clip: mean of windows, and spread frames."""
    lengths = [entry["frames"] for entry in document["rows"][0]["lengths"]]
    usual = document["clip"]["frames"]
    rows: list[tuple[str, ...]] = [
        ("model", *(f"{n} frames" if n <= usual else f"{n}: windows / spread" for n in lengths))
    ]
    for row in document["rows"]:
        line = [row["title"]]
        for entry in row["lengths"]:
            parts = ("windows",) if entry["frames"] <= usual else ("windows", "spread")
            line.append(" / ".join(_short(entry[part]["order"]["top1"]) for part in parts))
        rows.append(tuple(line))
    return rows


def text(rows: list[tuple[str, ...]]) -> str:
    """Aligned columns, a line each."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(line.rstrip() + "\n" for line in lines)


def markdown(rows: list[tuple[str, ...]]) -> str:
    head, *rest = rows
    lines = [head, ("---",) * len(head), *rest]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _percent(share: dict[str, Any]) -> str:
    if share["percent"] is None:
        return "-"
    low, high = share["interval95"]
    return f"{share['percent']:.1f} [{low:.1f}, {high:.1f}]"


def _short(share: dict[str, Any]) -> str:
    return "-" if share["percent"] is None else f"{share['percent']:.1f}"
