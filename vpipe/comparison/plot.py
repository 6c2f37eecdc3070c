"""The comparison as a picture: accuracy against cost, what order matters, length, and temporal kernels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpipe.errors import EnvironmentFault

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDERS = (
    ("reversed_own_label", "reversed, by its own label", 0.3),
    ("shuffled", "shuffled", 0.55),
    ("played", "as played", 1.0),
)
COLOURS = {"RGB only": "#8a8a8a", "flow": "#d1495b", "flow-free": "#00798c", "3-D": "#edae49"}


def need_matplotlib() -> None:
    """Raises EnvironmentFault `no_matplotlib` where plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401  (here: an extra that few need)
    except ImportError:
        raise EnvironmentFault(
            "no_matplotlib", "--plot needs Matplotlib, which is not installed: pip install 'vpipe[plots]'"
        ) from None


def draw(document: dict[str, Any], path: Path) -> None:
    """Draws a document of `compare` to a file, in the format of its suffix (png, svg, pdf)."""
    need_matplotlib()
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    figure = Figure(figsize=(16, 9.5), dpi=90, layout="constrained")
    axes = figure.subplots(2, 2)
    _orders(axes[0, 0], document)
    _cost(axes[0, 1], document)
    _lengths(axes[1, 0], document)
    _kernels(axes[1, 1], document)
    figure.savefig(path)


def _orders(axes: Axes, document: dict[str, Any]) -> None:
    rows = document["rows"][::-1]
    for offset, (played, label, alpha) in enumerate(ORDERS):
        shares = [row["accuracy"][played]["direction"]["top1"] for row in rows]
        values = [share["percent"] for share in shares]
        errors = [
            [share["percent"] - share["interval95"][0] for share in shares],
            [share["interval95"][1] - share["percent"] for share in shares],
        ]
        places = [place + 0.27 * (offset - 1) for place in range(len(rows))]
        axes.barh(
            places, values, 0.25, xerr=errors, alpha=alpha, label=label, error_kw={"linewidth": 0.8},
            color=[COLOURS[row["kind"]] for row in rows],
        )  # fmt: skip
    axes.axvline(document["chance"]["top1"], color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
    axes.set_xlim(0, 100)
    axes.set_title("Labels that differ in direction alone: top-1, % (dotted: chance)", fontsize=11)
    axes.legend(fontsize=8, loc="upper right", ncols=len(ORDERS))  # beside the row of single frames


def _cost(axes: Axes, document: dict[str, Any]) -> None:
    for number, row in enumerate(document["rows"]):
        share = row["accuracy"]["played"]["all"]["top1"]
        label = row["title"] + (" (and flow)" if row["flow_s_a_minute"] else "")
        axes.scatter(row["gmacs"], share["percent"], s=70, color=f"C{number}", label=label)
    axes.set_xlabel("10^9 multiply-accumulates a clip, without flow")
    axes.set_ylim(0, 100)
    axes.set_title("All labels: top-1, %, against the cost of the network", fontsize=11)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _lengths(axes: Axes, document: dict[str, Any]) -> None:
    for number, row in enumerate(document["rows"]):
        frames = [entry["frames"] for entry in row["lengths"]]
        for reading, style in (("windows", "-"), ("spread", ":")):
            values = [entry[reading]["order"]["top1"]["percent"] for entry in row["lengths"]]
            axes.plot(frames, values, style, marker="o", markersize=3, color=f"C{number}")
    axes.set_xscale("log", base=2)
    ticks = [entry["frames"] for entry in document["rows"][0]["lengths"]]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(0, 102)
    axes.set_xlabel(f"frames of the clip, {document['clip']['fps']:g} a second")
    length = document["clip"]["frames"]
    axes.set_title(
        "Labels that differ in order alone: top-1, %, colours as above\n"
        f"(line: mean of windows of {length} frames; dotted: {length} frames spread over the clip)",
        fontsize=11,
    )


def _kernels(axes: Axes, document: dict[str, Any]) -> None:
    for number, row in enumerate(document["rows"]):
        found = row["temporal_kernels"]
        if not found or found["none"]:
            continue
        total = sum(layer["kernels"] for layer in found["layers"])
        mean = [
            sum(layer["kernels"] * layer["response"][k] for layer in found["layers"]) / total
            for k in range(len(found["frequencies"]))
        ]
        axes.plot(found["frequencies"], mean, label=row["title"], color=f"C{number}")
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("cycles a frame")
    axes.set_title(
        "Answer of the learned temporal kernels\n(dotted: a kernel that passes one frame on)", fontsize=11
    )
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
