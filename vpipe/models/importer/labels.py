"""Label lists: those in the package, and which of them a checkpoint was trained with.

| list | classes | order |
|---|---|---|
| kinetics400 | 400 | alphabetical: torchvision's, GluonCV's, I3D's and mmaction2's are the same |
| ucf101 | 101 | that of classInd.txt, which is alphabetical |
| hmdb51 | 51 | alphabetical |
| something | 174 | the ids of Something-Something v2, alphabetical; TSM and its kin sort v1 in the same way |
| activitynet | 200 | mmaction2's label map (alphabetical for the first hundred only) |
| thumos14 | 20 | alphabetical |
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from vpipe.documents import read_document
from vpipe.errors import UsageError

FOLDER = Path(__file__).parents[1] / "labels"
_BY_COUNT = {400: "kinetics400", 101: "ucf101", 51: "hmdb51"}  # one order everywhere
_MMACTION = {200: "activitynet"}
_OTHERS = {174: "something"}  # mmaction2 numbers v1 in an order of its own


def packaged_lists() -> list[str]:
    """Names of the label lists in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def find_labels(given: str | None, classes: int, layout: str) -> tuple[str, ...]:
    """The labels of a model with `classes` classes: a packaged list by name, a text file, or the likely list.

    Raises UsageError: `no_labels` where nothing is given and no list fits, `labels_differ` where there are
    more or fewer, `bad_labels`.
    """
    own = _MMACTION if "mmaction2" in layout else _OTHERS
    name = given or _BY_COUNT.get(classes) or own.get(classes)
    if name is None:
        raise UsageError(
            "no_labels",
            f"{layout}: no label list of {classes} classes is known; give --labels a text file with one "
            f"label a line in the order of the classes, or one of {', '.join(packaged_lists())}",
        )
    packaged = name in packaged_lists()
    labels = read_labels(FOLDER / f"{name}.txt" if packaged else Path(name))
    if len(labels) != classes:
        raise UsageError(
            "labels_differ",
            f"{layout}: it tells {classes} classes, and {name} has {len(labels)} labels; --labels takes a "
            "text file with one label a line, in the order of the classes",
        )
    return labels


def read_labels(path: Path) -> tuple[str, ...]:
    """Labels from a text file, one a line, in the order of the classes. Raises UsageError `bad_labels`."""
    try:
        lines = read_document(path).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError("bad_labels", f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError("bad_labels", f"{path}: not a text file in UTF-8") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise UsageError("bad_labels", f"{path}: it holds no labels; write one a line")
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if twice:
        raise UsageError(
            "bad_labels", f"{path}: '{twice[0]}' stands there twice; each label once, one a line"
        )
    return labels
