"""What `vpipe eval` prints on a terminal: numbers in percent, from the same documents that --json prints."""

from __future__ import annotations

from typing import Any

from vpipe.errors import one_line

AN_SHOWN = (1, 5, 10, 50, 100, 500, 1000)


def detection_table(scores: dict[str, Any]) -> list[str]:
    """One line a label and the mean below, one column a threshold."""
    names = list(scores["map"])
    width = max(len("average"), *(len(one_line(label)) for label in scores["ap"]))
    lines = [" ".join(["tIoU".ljust(width), *(name.rjust(6) for name in names)])]
    for label, values in [*scores["ap"].items(), ("mAP", scores["map"])]:
        cells = (percent(values[name]) for name in names)
        lines.append(" ".join([one_line(label).ljust(width), *cells]))
    return [*lines, f"{'average'.ljust(width)} {percent(scores['average_map'])}"]


def proposals_table(scores: dict[str, Any]) -> list[str]:
    """AR at a few numbers of proposals a video, and the AUC."""
    at = scores["proposals_per_video"]
    shown = [i for i, an in enumerate(at) if i + 1 in AN_SHOWN or i + 1 == len(at)]
    return [
        *(f"AR@{at[i]:<8g} {percent(scores['ar'][i])}" for i in shown),
        f"AUC         {percent(scores['auc'])}",
    ]


def classification_table(scores: dict[str, Any]) -> list[str]:
    """One line a label, and the means below."""
    width = max(len("mean class accuracy"), *(len(one_line(label)) for label in scores["ap"]))
    lines = [f"{''.ljust(width)}  top-1     AP"]
    for label, ap in scores["ap"].items():
        accuracy = percent(scores["class_accuracy"][label])
        lines.append(f"{one_line(label).ljust(width)} {accuracy} {percent(ap)}")
    lines += [f"{f'top-{k}'.ljust(width)} {percent(value)}" for k, value in scores["top_k"].items()]
    lines.append(f"{'mean class accuracy'.ljust(width)} {percent(scores['mean_class_accuracy'])}")
    return [*lines, f"{'mAP'.ljust(width)} {percent(scores['map'])}"]


def frames_table(scores: dict[str, Any]) -> list[str]:
    """One line a label, and the metrics below."""
    width = max(len("accuracy"), *(len(one_line(label)) for label in scores["classes"]))
    lines = [f"{''.ljust(width)}    acc    IoU     frames"]
    for label, values in scores["classes"].items():
        cells = f"{percent(values['accuracy'])} {percent(values['iou'])} {values['frames']:>10}"
        lines.append(f"{one_line(label).ljust(width)} {cells}")
    for name in ("pa", "mpa", "miou", "fwiou"):
        lines.append(f"{name.ljust(width)} {percent(scores[name])}")
    lines.append(f"{'edit'.ljust(width)} {scores['edit']:6.2f}")
    return [*lines, *(f"{f'F1@{k}'.ljust(width)} {value:6.2f}" for k, value in scores["f1"].items())]


def percent(value: float | None) -> str:
    """A share as percent in six columns; a dash where there is none."""
    return f"{'-':>6}" if value is None else f"{100 * value:6.2f}"
