"""The table of tasks by name.

To add one, write a file of this folder that declares a `Task` (`task.py` explains its fields), and a line in TASKS.
The name is what users give to `--task_type`.
"""

from open_r1.tasks.area import AREA
from open_r1.tasks.counting import COUNTING
from open_r1.tasks.decode_sequences import DECODE_SEQUENCES
from open_r1.tasks.decode_words import DECODE_WORDS
from open_r1.tasks.default import DEFAULT
from open_r1.tasks.detection import OD
from open_r1.tasks.digits import DIGITS
from open_r1.tasks.gui import GUI
from open_r1.tasks.hinted_counting import HINTED_COUNTING
from open_r1.tasks.math import MATH
from open_r1.tasks.mixture import MIXTURE
from open_r1.tasks.motion import MOTION
from open_r1.tasks.rec import REC
from open_r1.tasks.seg import SEG
from open_r1.tasks.task import Task
from open_r1.tasks.zoom_digits import ZOOM_DIGITS

TASKS: dict[str, Task] = {
    "area": AREA,
    "counting": COUNTING,
    "decode_sequences": DECODE_SEQUENCES,
    "decode_words": DECODE_WORDS,
    "default": DEFAULT,
    "digits": DIGITS,
    "gui": GUI,
    "hinted_counting": HINTED_COUNTING,
    "math": MATH,
    "mixture": MIXTURE,
    "motion": MOTION,
    "od": OD,
    "rec": REC,
    "seg": SEG,
    "zoom_digits": ZOOM_DIGITS,
}
