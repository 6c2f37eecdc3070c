"""Motion as a function of continuous time: eased rates, hand-held wobble, paths of camera and subjects.

Lengths are in short sides of the frame, times in seconds, angles in radians; y points down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TAU = 2 * np.pi


@dataclass(frozen=True)
class Wobble:
    """A sum of sinusoids."""

    amplitudes: tuple[float, ...] = ()
    frequencies_hz: tuple[float, ...] = ()
    phases: tuple[float, ...] = ()

    def at(self, t: float) -> float:
        return sum(
            a * np.sin(TAU * f * t + p)
            for a, f, p in zip(self.amplitudes, self.frequencies_hz, self.phases, strict=True)
        )

    @classmethod
    def random(
        cls, rng: np.random.Generator, speed: float, low_hz: float, high_hz: float, terms: int = 3
    ) -> Wobble:
        """Random frequencies and phases, with a root-mean-square rate of change of `speed` per second."""
        frequencies = rng.uniform(low_hz, high_hz, terms)
        shares = rng.dirichlet(np.full(terms, 2.0))
        amplitudes = speed * np.sqrt(2 * shares) / (TAU * frequencies)
        return cls(tuple(amplitudes), tuple(frequencies), tuple(rng.uniform(0, TAU, terms)))


@dataclass(frozen=True)
class Path:
    """value(t) = origin + rate * eased(t - t_ref) + wobble(t) - wobble(t_ref), so that value(t_ref) = origin.

    The rate is eased as rate * (1 + ease * sin(2 pi ease_hz t + phase)); with ease < 1 it never changes sign.
    """

    origin: float = 0.0
    rate: float = 0.0
    t_ref: float = 0.0
    ease: float = 0.0
    ease_hz: float = 0.5
    ease_phase: float = 0.0
    wobble: Wobble = Wobble()

    def _eased(self, t: float) -> float:
        return t - self.ease / (TAU * self.ease_hz) * np.cos(TAU * self.ease_hz * t + self.ease_phase)

    def at(self, t: float) -> float:
        moved = self.rate * (self._eased(t) - self._eased(self.t_ref)) if self.rate else 0.0
        return self.origin + moved + self.wobble.at(t) - self.wobble.at(self.t_ref)


def translation(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(s: float) -> np.ndarray:
    return np.diag([s, s, 1.0])


def rotation(angle: float) -> np.ndarray:
    """Turns clockwise as seen on the screen, where y points down."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Camera:
    """Where the camera is in the world (x, y), its roll (clockwise) and the logarithm of its zoom."""

    x: Path
    y: Path
    roll: Path
    log_zoom: Path

    def turn(self, t: float) -> np.ndarray:
        """The part of world -> screen that does not depend on where the camera is: zoom and roll (3, 3)."""
        return scaling(float(np.exp(self.log_zoom.at(t)))) @ rotation(-self.roll.at(t))

    def position(self, t: float) -> np.ndarray:
        return np.array([self.x.at(t), self.y.at(t)])

    def world_to_screen(self, t: float) -> np.ndarray:
        """(3, 3): the screen's origin is its centre, one unit its short side."""
        x, y = self.position(t)
        return self.turn(t) @ translation(-x, -y)
