"""A video as one picture: evenly chosen frames side by side, each above its time. (torch-free)"""

from PIL import Image, ImageDraw, ImageFont

from open_r1.data.video.types import VideoFrames

CELL_SIDE, LINE_CELLS = 160, 8  # px of a frame's longer side; frames of a line
CAPTION, GAP = 18, 4  # px below a frame, and around one
LEAST_WIDTH = 48  # px of a frame's place, in which its time can be read
INK, GAP_COLOR = "#ffffff", "#000000"


def evenly(count: int, most: int) -> list[int]:
    """The places of `most` of `count` frames, evenly from the first to the last; all where there are fewer.

    >>> evenly(9, 3), evenly(3, 5), evenly(9, 1), evenly(0, 5)
    ([0, 4, 8], [0, 1, 2], [4], [])
    """
    kept = min(count, most)
    if kept == 1:
        return [count // 2]
    return [round(number * (count - 1) / (kept - 1)) for number in range(kept)]


def strip_picture(video: VideoFrames, most: int = 2 * LINE_CELLS) -> Image.Image:
    """A picture (RGB) of at most `most` frames, the first and the last among them, in lines of LINE_CELLS.

    >>> import numpy as np
    >>> strip_picture(VideoFrames(np.zeros((20, 90, 160, 3), np.uint8), tuple(range(20)), 20.0)).size
    (1316, 228)
    """
    places = evenly(len(video.seconds), most)
    frames = [_cell(video, place) for place in places]
    width, height = max(frames[0].width, LEAST_WIDTH) + GAP, frames[0].height + CAPTION + GAP
    lines = -(-len(frames) // LINE_CELLS)
    strip = Image.new("RGB", (min(len(frames), LINE_CELLS) * width + GAP, lines * height + GAP), GAP_COLOR)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(size=CAPTION - 6)
    for number, (frame, place) in enumerate(zip(frames, places, strict=True)):
        left, top = number % LINE_CELLS * width + GAP, number // LINE_CELLS * height + GAP
        strip.paste(frame, (left, top))
        pen.text((left, top + frame.height + 2), f"{video.seconds[place]:.1f} s", fill=INK, font=font)
    return strip


def _cell(video: VideoFrames, place: int) -> Image.Image:
    frame = Image.fromarray(video.pixels[place])
    frame.thumbnail((CELL_SIDE, CELL_SIDE))
    return frame
