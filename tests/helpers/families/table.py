"""Name of a family or variant -> the function that returns its configuration and its processor."""

from collections.abc import Callable

from helpers.families.glm import GLM
from helpers.families.google import GOOGLE
from helpers.families.hybrid import HYBRID
from helpers.families.llava import LLAVA
from helpers.families.mistral import MISTRAL
from helpers.families.of_timm import OF_TIMM
from helpers.families.parts import Built
from helpers.families.qwen import QWEN
from helpers.families.tiles import TILES

BUILDERS: dict[str, Callable[[], Built]] = {**QWEN, **GOOGLE, **LLAVA, **MISTRAL, **GLM, **TILES, **HYBRID}
PROCESSORS = BUILDERS | OF_TIMM  # those of which only the processor can be built here
