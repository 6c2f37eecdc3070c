"""The one recipe by which all networks of the comparison are trained and measured."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage
from vpipe.training.recipe import Recipe

# Raised when equal plans would give other clips or other networks: weights trained before are not used again.
VERSION = 2
MADE_PX = 80  # side of the square clips as they are made
SIZE_PX = 64  # of what is cut from them for the networks
FPS = Fraction(4)
FRAMES = 8  # that a network takes in
FLOW = FlowParams.preset("accurate", short_side_px=MADE_PX, fps=FPS)
STORAGE = Storage("standard", bound_px=26.0)  # how far the fastest pan moves from frame to frame


# How all networks are trained: one cycle of AdamW.
TRAINING: dict[str, Any] = {
    "batch": 64,
    "learning_rate": 3e-3,
    "weight_decay": 0.02,
    "label_smoothing": 0.05,
    "clip_gradient": 2.0,
}
TIMES = 12  # that a training clip is shown, never twice the same way


@dataclass(frozen=True)
class Plan:
    """How much is trained and measured, and how."""

    seed: int = 11
    seen: int = 128_000  # clips that each network sees in training
    test: int = 60  # clips of each label
    lengths: tuple[int, ...] = (4, 8, 16, 32)  # frames of the clips of the measurement over length
    flow_minutes: float = 0.5  # of the video whose flow is timed

    def made(self, labels: int) -> int:
        """Training clips of each label."""
        return max(1, round(self.seen / (TIMES * labels)))

    @property
    def batch(self) -> int:
        return int(TRAINING["batch"])

    @property
    def length_test(self) -> int:
        """Clips of each label in the measurement over length."""
        return max(1, self.test // 5)

    def recipe(self, name: str, modality: str, architecture: str, hyper: dict[str, Any]) -> Recipe:
        """How a network is trained, over `seen` clips."""
        return Recipe(
            name=name,
            modality=modality,
            architecture=architecture,
            hyper=hyper,
            clips=self.seen,
            data="comparison",
            seed=self.seed,
            **TRAINING,
            frames=FRAMES,
            fps=FPS,
            size=SIZE_PX,
            joined=0.0,
        )


QUICK = Plan(seen=16_000, test=10, flow_minutes=0.1)
