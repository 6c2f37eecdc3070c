"""Generated videos with exact truth: training data, benchmarks and the sample videos."""

from vpipe.synth.vocabulary import BACKGROUND, FLIPPED, LABELS

__all__ = ["BACKGROUND", "FLIPPED", "LABELS"]
