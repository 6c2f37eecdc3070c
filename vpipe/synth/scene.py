"""One shot with a known motion label: a background, a camera, subjects and the faults of a real recording.

What a single frame shows is distributed alike in all labels: textures, scale, angle, the number, size, place
and pose of subjects, blur, noise and exposure do not depend on the label, and paths pass through the drawn
place, angle and scale at a random time of the shot. Only the change over time tells the label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from vpipe.synth.motion import Camera, Path, Wobble, translation
from vpipe.synth.subjects import Sprite, Subject, arm_mask, body_mask
from vpipe.synth.textures import Texture, TexturePool

# Rates of the vocabulary, drawn log-uniformly between slow and fast; per second.
PAN_RATE = (0.06, 1.3)  # short sides of the frame
ZOOM_RATE = (0.045, 0.55)  # natural logarithm of the scale
ROLL_RATE = (0.08, 1.0)  # radians
SUBJECT_RATE = (0.14, 0.9)  # short sides
SHAKE_SPEED = (0.12, 0.6)  # short sides, root mean square
WAVE_HZ = (0.8, 2.2)
WAVE_SWING = (0.4, 1.1)  # radians to each side
# What is under every label: a hand-held camera and subjects that do not quite stand still.
DRIFT_SPEED = 0.02
SUBJECT_DRIFT = 0.03
# A background whose motion cannot be seen is drawn again.
LEAST_CONTRAST = 2.0  # of 255: what 8 bits and compression leave little of
MOST_DRAWS = 20  # a pool may hold nothing better
CELL_PX = 20


@dataclass(frozen=True)
class Look:
    """The faults of the recording; none depends on the label."""

    blur_px: float  # of a 240 px short side
    streak_px: float  # a straight blur of this length, in a direction of its own
    streak_angle: float
    noise: float  # standard deviation, of 255
    gain: float
    offset: float
    flicker: Wobble


@dataclass(frozen=True)
class Scene:
    """A shot as a function of continuous time, so that it can be written at any frame rate."""

    label: str
    aspect: float  # width / height
    background: Texture
    texels: float  # level-0 texture px per short side at zoom 1
    centre: tuple[float, float]  # where in the texture the world's origin lies, px
    camera: Camera
    subjects: tuple[Subject, ...]
    look: Look
    noise_seed: int

    def render(self, t: float, width: int, height: int) -> np.ndarray:
        """The picture at time t (seconds): uint8 RGB (height, width, 3)."""
        short = min(width, height)
        to_pixels = _to_pixels(width, height)
        zoom = float(np.exp(self.camera.log_zoom.at(t)))
        level, scale = self.background.level_for(self.texels / (zoom * short))
        # screen pixel -> world -> texture pixel of this level (pixel centres at integers)
        to_texture = translation(*self.centre) @ np.diag([self.texels, self.texels, 1.0])
        shrink = np.array([[scale, 0, scale / 2 - 0.5], [0, scale, scale / 2 - 0.5], [0, 0, 1.0]])
        matrix = shrink @ to_texture @ np.linalg.inv(to_pixels @ self.camera.world_to_screen(t))
        frame = cv2.warpAffine(
            level,
            matrix[:2],
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        for subject in self.subjects:
            for sprite, place in subject.layers(self.camera, t, t, self._wrap(subject)):
                sprite.draw(frame, to_pixels @ place)
        return self._record(frame, t)

    def flow(self, t0: float, t1: float, width: int, height: int) -> np.ndarray:
        """Exact motion of what is seen at t0 until t1: float32 (2, height, width), u then v, px."""
        to_pixels = _to_pixels(width, height)
        back = np.linalg.inv(to_pixels @ self.camera.world_to_screen(t0))
        field = _affine_flow(to_pixels @ self.camera.world_to_screen(t1) @ back, width, height)
        for subject in self.subjects:
            wrap = self._wrap(subject)
            before = subject.layers(self.camera, t0, t0, wrap)
            after = subject.layers(self.camera, t1, t0, wrap)
            for (sprite, place0), (_, place1) in zip(before, after, strict=True):
                cover = sprite.cover(width, height, to_pixels @ place0)
                if cover is not None and cover.any():
                    moved = to_pixels @ place1 @ np.linalg.inv(to_pixels @ place0)
                    field[:, cover] = _affine_flow(moved, width, height)[:, cover]
        return field

    def _wrap(self, subject: Subject) -> tuple[float, float]:
        margin = 2.4 * subject.radius
        return (max(self.aspect, 1.0) + margin, max(1.0 / self.aspect, 1.0) + margin)

    def _record(self, frame: np.ndarray, t: float) -> np.ndarray:
        look, short = self.look, min(frame.shape[:2])
        if look.streak_px * short / 240 > 1.5:
            frame = cv2.filter2D(frame, -1, _streak(look.streak_px * short / 240, look.streak_angle))
        if look.blur_px * short / 240 > 0.3:
            frame = cv2.GaussianBlur(frame, (0, 0), look.blur_px * short / 240)
        gain = look.gain * (1 + look.flicker.at(t))
        frame = (
            cv2.convertScaleAbs(frame, alpha=gain, beta=max(look.offset, 0.0))
            if look.offset >= 0
            else (cv2.subtract(cv2.convertScaleAbs(frame, alpha=gain), np.full(4, -look.offset)))
        )
        if look.noise > 0.5:
            # One seed per (shot, time): equal times give equal pictures whatever was rendered before.
            cv2.setRNGSeed(int((self.noise_seed + round(t * 1_000_003)) % 2**31))
            noise = np.empty(frame.shape, np.int16)
            cv2.randn(noise, np.zeros(3), np.full(3, look.noise))
            frame = cv2.add(frame, noise, dtype=cv2.CV_8U)
        return frame


def _to_pixels(width: int, height: int) -> np.ndarray:
    """Screen (centre 0, short side 1) -> pixel centres at integers."""
    short = min(width, height)
    return np.array([[short, 0, width / 2 - 0.5], [0, short, height / 2 - 0.5], [0, 0, 1.0]])


def _affine_flow(matrix: np.ndarray, width: int, height: int) -> np.ndarray:
    x = np.arange(width, dtype=np.float32)[None]
    y = np.arange(height, dtype=np.float32)[:, None]
    m = matrix.astype(np.float32)
    u = (m[0, 0] - 1) * x + m[0, 1] * y + m[0, 2]
    v = m[1, 0] * x + (m[1, 1] - 1) * y + m[1, 2]
    return np.stack([u, v])


def _streak(length_px: float, angle: float) -> np.ndarray:
    size = int(np.ceil(length_px)) // 2 * 2 + 3
    kernel = np.zeros((size, size), np.float32)
    half = np.array([np.cos(angle), np.sin(angle)]) * length_px / 2
    middle = size // 2
    start, end = np.round(middle - half).astype(int), np.round(middle + half).astype(int)
    cv2.line(kernel, tuple(map(int, start)), tuple(map(int, end)), 1.0, 1)
    return kernel / kernel.sum()


def random_scene(
    label: str, rng: np.random.Generator, pool: TexturePool, *, aspect: float, duration_s: float
) -> Scene:
    """Draws a shot of `duration_s` seconds in which the motion of `label` goes on all the time."""
    background, texels, centre = _random_background(rng, pool)
    look = _random_look(rng)
    for _ in range(MOST_DRAWS):
        if shows_motion(background, texels, centre, look, aspect):
            break
        background, texels, centre = _random_background(rng, pool)
    count = 1 + int(rng.integers(3))
    t_ref = float(rng.uniform(0, duration_s))
    camera = _random_camera(label, rng, t_ref)
    subjects = [
        _random_subject(rng, pool, aspect, float(rng.uniform(0, duration_s)), camera) for _ in range(count)
    ]
    if label.startswith("subject_"):
        subjects[-1] = _set_moving(label, subjects[-1], camera.roll.origin, rng)
    return Scene(
        label, aspect, background, texels, centre, camera, tuple(subjects), look, int(rng.integers(2**31))
    )


def shows_motion(
    background: Texture, texels: float, centre: tuple[float, float], look: Look, aspect: float
) -> bool:
    """Whether a picture of this background has enough texture for its motion to be seen.

    Before a blank wall a pan is the same pictures as a subject that crosses, and a zoom is none. Of a
    grid of 4 x 4 cells, half must deviate by LEAST_CONTRAST grey levels or more.
    """
    still = Camera(Path(), Path(), Path(), Path())
    clean = replace(look, noise=0.0, flicker=Wobble())
    scene = Scene("static", aspect, background, texels, centre, still, (), clean, 0)
    picture = cv2.cvtColor(scene.render(0.0, 4 * CELL_PX, 4 * CELL_PX), cv2.COLOR_RGB2GRAY).astype(np.float32)
    cells = picture.reshape(4, CELL_PX, 4, CELL_PX).swapaxes(1, 2).reshape(16, -1)
    return float(np.median(cells.std(1))) >= LEAST_CONTRAST


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def _random_background(
    rng: np.random.Generator, pool: TexturePool
) -> tuple[Texture, float, tuple[float, float]]:
    background = pool.pick(rng)
    height, width = background.levels[0].shape[:2]
    texels = min(height, width) * _log_uniform(rng, (0.3, 1.0))
    return background, texels, (float(rng.uniform(0, width)), float(rng.uniform(0, height)))


def _random_look(rng: np.random.Generator) -> Look:
    return Look(
        blur_px=float(rng.uniform(0, 2.0)) if rng.random() < 0.5 else 0.0,
        streak_px=float(rng.uniform(2, 14)) if rng.random() < 0.25 else 0.0,
        streak_angle=float(rng.uniform(0, np.pi)),
        noise=float(rng.uniform(1, 10)) if rng.random() < 0.6 else 0.0,
        gain=float(rng.uniform(0.55, 1.25)),
        offset=float(rng.uniform(-25, 25)),
        flicker=Wobble.random(rng, float(rng.uniform(0, 0.08)), 0.1, 1.5) if rng.random() < 0.4 else Wobble(),
    )


def _eased(rng: np.random.Generator, origin: float, rate: float, t_ref: float, wobble: Wobble) -> Path:
    return Path(
        origin,
        rate,
        t_ref,
        float(rng.uniform(0, 0.55)),
        float(rng.uniform(0.15, 0.8)),
        float(rng.uniform(0, 2 * np.pi)),
        wobble,
    )


def _random_camera(label: str, rng: np.random.Generator, t_ref: float) -> Camera:
    angle = float(rng.uniform(-np.pi, np.pi)) if rng.random() < 0.5 else float(rng.normal(0, 0.12))
    drift = float(rng.uniform(0, DRIFT_SPEED))
    rates = dict.fromkeys(("right", "down", "roll", "log_zoom"), 0.0)
    if label.startswith(("pan_", "tilt_")):
        axis = "right" if label.startswith("pan_") else "down"
        rates[axis] = _log_uniform(rng, PAN_RATE) * (1 if label in ("pan_right", "tilt_down") else -1)
    elif label.startswith("zoom_"):
        rates["log_zoom"] = _log_uniform(rng, ZOOM_RATE) * (1 if label == "zoom_in" else -1)
    elif label.startswith("roll_"):
        rates["roll"] = _log_uniform(rng, ROLL_RATE) * (1 if label == "roll_clockwise" else -1)
    strength = max((abs(rate) for rate in rates.values()), default=0.0)
    for name, rate in rates.items():  # no hand moves along one axis alone
        if rate == 0.0 and strength > 0.0:
            rates[name] = strength * float(rng.uniform(-0.15, 0.15))
    shaking = label == "shake"
    speed = _log_uniform(rng, SHAKE_SPEED) if shaking else drift
    tremor = (1.5, 6.0) if shaking else (0.1, 0.8)
    share = float(rng.uniform(0.25, 0.75)) if shaking else 0.5
    # The world's axes are those of the picture at t_ref: pan goes along the rolled horizon.
    c, s = np.cos(angle), np.sin(angle)
    x_rate, y_rate = c * rates["right"] - s * rates["down"], s * rates["right"] + c * rates["down"]
    shared = _eased(rng, 0.0, 1.0, t_ref, Wobble())
    x = replace(shared, rate=x_rate, wobble=Wobble.random(rng, speed * np.sqrt(2 * share), *tremor))
    y = replace(shared, rate=y_rate, wobble=Wobble.random(rng, speed * np.sqrt(2 * (1 - share)), *tremor))
    roll_tremor = Wobble.random(rng, speed * float(rng.uniform(0, 0.8)), *tremor)
    zoom_tremor = Wobble.random(rng, drift * float(rng.uniform(0, 0.5)), 0.1, 0.8)
    return Camera(
        x,
        y,
        replace(shared, origin=angle, rate=rates["roll"], wobble=roll_tremor),
        replace(shared, rate=rates["log_zoom"], wobble=zoom_tremor),
    )


def _random_subject(
    rng: np.random.Generator, pool: TexturePool, aspect: float, t_ref: float, camera: Camera
) -> Subject:
    radius = _log_uniform(rng, (0.11, 0.26))
    on_screen = np.array([max(aspect, 1.0), max(1 / aspect, 1.0)]) * rng.uniform(-0.36, 0.36, 2)
    world = np.linalg.inv(camera.world_to_screen(t_ref)) @ np.array([*on_screen, 1.0])
    # Upright in the picture at t_ref, or at any angle
    upright = camera.roll.at(t_ref) if rng.random() < 0.7 else float(rng.uniform(-np.pi, np.pi))
    drifting = float(rng.uniform(0, SUBJECT_DRIFT)) if rng.random() < 0.5 else 0.0
    heading = float(rng.uniform(0, 2 * np.pi))
    wobble = Wobble.random(rng, drifting * 0.3, 0.1, 0.6)
    texture = pool.pick(rng)
    return Subject(
        body=Sprite.cut(texture, body_mask(rng), rng),
        arm=Sprite.cut(texture, arm_mask(rng), rng),
        radius=radius,
        arm_length=radius * float(rng.uniform(0.9, 1.5)),
        shoulder=(float(rng.uniform(-0.2, 0.5)), float(rng.uniform(-0.55, 0.1))),
        facing=float(rng.choice([-1.0, 1.0])),
        x=_eased(rng, float(world[0]), drifting * np.cos(heading), t_ref, wobble),
        y=_eased(rng, float(world[1]), drifting * np.sin(heading), t_ref, wobble),
        lean=Path(upright, t_ref=t_ref),
        arm_angle=Path(float(rng.uniform(-np.pi, np.pi)), t_ref=t_ref),
    )


def _set_moving(label: str, subject: Subject, level: float, rng: np.random.Generator) -> Subject:
    if label == "subject_waves":
        hertz, phase = float(rng.uniform(*WAVE_HZ)), float(rng.uniform(0, 2 * np.pi))
        swing = Wobble((float(rng.uniform(*WAVE_SWING)),), (hertz,), (phase,))
        rock = Wobble((float(rng.uniform(0.0, 0.15)),), (hertz,), (phase,))
        return replace(
            subject,
            arm_angle=replace(subject.arm_angle, wobble=swing),
            lean=replace(subject.lean, wobble=rock),
        )
    speed = _log_uniform(rng, SUBJECT_RATE) * (-1 if label == "subject_left" else 1)
    # Left and right are those of the picture, whose horizon is rolled by `level`.
    along, across = speed, speed * float(rng.uniform(-0.25, 0.25))
    c, s = np.cos(level), np.sin(level)
    ease = min(subject.x.ease, 0.4)
    return replace(
        subject,
        x=replace(subject.x, rate=c * along - s * across, ease=ease),
        y=replace(
            subject.y,
            rate=s * along + c * across,
            ease=ease,
            ease_hz=subject.x.ease_hz,
            ease_phase=subject.x.ease_phase,
        ),
    )
