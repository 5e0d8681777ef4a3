"""The task `zoom_digits`: read one or two handwritten digits in the yellow frame of a scene, too small to read there.

A scene has three frames of 56 x 28 pixels, one yellow and two blue, with digits at half the size of `digits` in each;
enlarged, a frame is a picture of `digits`. So the answer needs the tool `zoom` (`--tools zoom`), on the right place:
what a wrong frame shows is another answer. Row i depends only on (seed, split, i); train and held-out scenes use
disjoint sets of source digits.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from PIL import Image

from open_r1.tasks.digits import digits_answer, draw_digits, source_of
from open_r1.tasks.shapes import PixelBox
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

SCENE_WH = (112, 112)  # pixels; multiples of 28, so Qwen's processor keeps it as it is
FRAME_WH = (56, 28)  # outer size of a frame
FRAME_PX = 2  # thickness of its line
FRAME_GRID = 28  # frames begin at multiples of this, which are the pieces that Qwen's vision sees
ASKED_COLOR, OTHER_COLOR = (255, 225, 40), (60, 90, 255)  # yellow, blue
ZOOM_QUESTION = "What digits are in the yellow frame?"
MOST_FRAMES = 3  # more seldom fit
LAYOUT_TRIES = 500


def frame_boxes(rng: np.random.Generator, number: int) -> list[PixelBox]:
    """So many boxes of FRAME_WH in a scene, none on another. Raises ValueError for more than MOST_FRAMES.

    >>> frame_boxes(np.random.default_rng(0), 2)
    [(56, 56, 112, 84), (28, 28, 84, 56)]
    """
    if not 1 <= number <= MOST_FRAMES:
        raise ValueError(f"frames: got {number}, expected 1 to {MOST_FRAMES}, which a scene has room for")
    (width, height), (frame_width, frame_height) = SCENE_WH, FRAME_WH
    for _ in range(LAYOUT_TRIES):
        xs = rng.integers((width - frame_width) // FRAME_GRID + 1, size=number) * FRAME_GRID
        ys = rng.integers((height - frame_height) // FRAME_GRID + 1, size=number) * FRAME_GRID
        apart = (np.abs(xs[:, None] - xs) >= frame_width) | (np.abs(ys[:, None] - ys) >= frame_height)
        if apart.sum() == number * (number - 1):
            corners = zip(xs.tolist(), ys.tolist(), strict=True)
            return [(x, y, x + frame_width, y + frame_height) for x, y in corners]
    raise ValueError(f"frames: got {number}, for which no layout was found in {LAYOUT_TRIES} tries; ask for fewer")


@dataclass(frozen=True)
class ZoomScenes:
    """A scene of frames with digits, and the question about the yellow one."""

    splits: ClassVar[tuple[str, ...]] = ("train", "heldout")
    frames: int = field(default=3, metadata={"help": f"Frames of a scene, 1 to {MOST_FRAMES}; one of them is yellow."})
    mnist: str | None = field(default=None, metadata={"help": "Folder with MNIST idx files instead of UCI's digits."})

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng, source = example_rng(seed, self.splits, split, index), source_of(self.mnist, split == "heldout")
        boxes = frame_boxes(rng, self.frames)
        scene, contents = Image.new("RGB", SCENE_WH), []
        for box in boxes:
            chosen = rng.integers(len(source.labels), size=rng.integers(1, 3))
            draw_frame(
                scene, box, draw_digits(source.images[chosen], rng), ASKED_COLOR if not contents else OTHER_COLOR
            )
            contents.append(source.labels[chosen].tolist())
        extra = {"contents": contents, "frames": [list(box) for box in boxes]}  # the yellow frame first
        return DrawnExample((scene,), (TaskQuestion(ZOOM_QUESTION, digits_answer("list", contents[0]), extra),))


def draw_frame(scene: Image.Image, box: PixelBox, picture: Image.Image, color: tuple[int, int, int]) -> None:
    """Draws a frame at `box` of the scene, with the picture made small in it."""
    x1, y1, x2, y2 = box
    inner = (x2 - x1 - 2 * FRAME_PX, y2 - y1 - 2 * FRAME_PX)
    scene.paste(color, box)
    scene.paste(picture.resize(inner, Image.Resampling.LANCZOS), (x1 + FRAME_PX, y1 + FRAME_PX))


ZOOM_DIGITS = Task(
    name="zoom_digits",
    method="digits",
    prompts={
        "think": "{question} First think in <think> </think> tags, then give the final answer in <answer> </answer> "
        "tags, for example <answer>[0, 1]</answer>.",
        "direct": "{question} Give the final answer in <answer> </answer> tags, for example <answer>[0, 1]</answer>.",
    },
    rewards=("accuracy",),  # a call that is answered badly must not cost more than an answer that is guessed
    weights=(1.0,),
    generator=ZoomScenes,
)
