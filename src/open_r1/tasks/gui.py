"""The task `gui`, after VLM-R1's multi-image recipe: name the defect between screenshots before and after a click.

The public rows, with two images and no `<image>` tag, are read unchanged. For machines without them the generator
draws a toy window of four switches of which one is clicked; held-out windows have other colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw

from open_r1.tasks.shapes import Color
from open_r1.tasks.task import DrawnExample, Task, TaskQuestion, example_rng

NO_RESPONSE, UNEXPECTED, NO_DEFECT = "Operation No Response", "Unexpected Task Result", "No Defect"
SWITCH_CORNERS = ("upper left", "upper right", "lower left", "lower right")
SWITCH_QUESTION = (
    "The two screenshots show a window before and after this action: [click on the switch in the {place}.].\n"
    "Which defect do they show?\n- {no_response}: nothing changes.\n- {unexpected}: something else changes than the "
    "action says.\n- {no_defect}: the action does what it says.\nAnswer with the name only."
)
ACCENTS = {
    "train": ((40, 200, 90), (60, 130, 255), (255, 170, 30)),
    "heldout": ((230, 60, 60), (190, 90, 255), (40, 200, 210)),
}
BAR, OFF, GROUND = (90, 90, 90), (130, 130, 130), (35, 35, 35)


@dataclass(frozen=True)
class SwitchWindows:
    """A window before and after a click on one of its four switches."""

    splits: ClassVar[tuple[str, ...]] = ("train", "heldout")
    no_defect: bool = field(
        default=False, metadata={"help": "Also windows in which the click works; the public rows have none."}
    )
    size: int = field(default=112, metadata={"help": "Side of a screenshot in pixels, at least 56."})

    def example(self, seed: int, split: str, index: int) -> DrawnExample:
        rng = example_rng(seed, self.splits, split, index)
        before, clicked = (rng.random(4) < 0.5).tolist(), int(rng.integers(4))
        defects = (NO_RESPONSE, UNEXPECTED, NO_DEFECT)[: 3 if self.no_defect else 2]
        defect = defects[rng.integers(len(defects))]
        after = switches_after_click(before, clicked, defect, rng)
        color = ACCENTS[split][rng.integers(len(ACCENTS[split]))]
        corner = rng.integers(0, self.size // 8 + 1, size=2).tolist()
        question = SWITCH_QUESTION.format(
            place=SWITCH_CORNERS[clicked], no_response=NO_RESPONSE, unexpected=UNEXPECTED, no_defect=NO_DEFECT
        )
        extra = {"clicked": SWITCH_CORNERS[clicked], "before": before, "after": after}
        images = tuple(draw_screenshot(on, corner, color, self.size) for on in (before, after))
        return DrawnExample(images, (TaskQuestion(question, defect, extra),))


def switches_after_click(on: Sequence[bool], clicked: int, defect: str, rng: np.random.Generator) -> list[bool]:
    """The switches after the click: no switch flips, or another one, or, without a defect, the clicked one.

    >>> switches_after_click([True, False, False, False], 0, NO_DEFECT, np.random.default_rng(0))
    [False, False, False, False]
    """
    other = (clicked + int(rng.integers(1, len(on)))) % len(on)
    flips = {NO_RESPONSE: None, UNEXPECTED: other, NO_DEFECT: clicked}[defect]
    return [value != (k == flips) for k, value in enumerate(on)]


def draw_screenshot(on: Sequence[bool], corner: Sequence[int], color: Color, side: int) -> Image.Image:
    """A screenshot (side, side) RGB: a window with a bar and four switches; switches that are on have colour and their
    knob at the right."""
    image = Image.new("RGB", (side, side))
    brush = ImageDraw.Draw(image)
    (x, y), edge = corner, side * 7 // 8 - 1
    brush.rectangle((x, y, x + edge, y + edge), fill=GROUND)
    brush.rectangle((x, y, x + edge, y + edge // 8), fill=BAR)
    for k, value in enumerate(on):
        left, top = x + edge * (1 + 8 * (k % 2)) // 16, y + edge * (4 + 6 * (k // 2)) // 16
        _switch(brush, (left, top), edge * 6 // 16, value, color)
    return image


def _switch(brush: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, on: bool, color: Color) -> None:
    (x, y), height = corner, width // 2
    brush.rounded_rectangle((x, y, x + width, y + height), radius=height // 2, fill=color if on else OFF)
    knob = x + (width - height if on else 0)
    brush.ellipse((knob + 2, y + 2, knob + height - 2, y + height - 2), fill=(255, 255, 255))


GUI = Task(name="gui", method="all_match", metric="exact defect names", generator=SwitchWindows)
