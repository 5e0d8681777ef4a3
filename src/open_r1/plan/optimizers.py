"""Bytes that an optimizer keeps for a trained parameter, by the names of `--optim`.

torch's optimizers keep states in the parameter's own type; bitsandbytes keeps float32, or 8 bits with a float32 scale
for 256 of them (weights of under 4,096 numbers and embeddings stay in float32). `tests/plan` counts the states of the
real optimizers.
"""

from open_r1.errors import UsageError
from open_r1.plan.settings import FLOAT

SCALES = 4 / 256  # bytes of an 8-bit state's scale

OPTIMIZERS: dict[str, tuple[int, str]] = {  # number of states of a parameter, and their type
    "adamw_torch": (2, "own"),
    "adamw_torch_fused": (2, "own"),
    "adafactor": (0, "own"),  # a row and a column of each matrix
    "sgd": (0, "own"),
    "adagrad": (1, "own"),
    "rmsprop": (1, "own"),
    "adamw_bnb_8bit": (2, "8bit"),
    "adamw_8bit": (2, "8bit"),
    "ademamix": (3, "float32"),
    "ademamix_8bit": (3, "8bit"),
    "lion_32bit": (1, "float32"),
    "lion_8bit": (1, "8bit"),
    "rmsprop_bnb": (1, "float32"),
    "rmsprop_bnb_32bit": (1, "float32"),
    "rmsprop_bnb_8bit": (1, "8bit"),
    "paged_adamw_32bit": (2, "float32"),
    "paged_adamw_8bit": (2, "8bit"),
    "paged_ademamix_32bit": (3, "float32"),
    "paged_ademamix_8bit": (3, "8bit"),
    "paged_lion_32bit": (1, "float32"),
    "paged_lion_8bit": (1, "8bit"),
}


def state_bytes_of(optim: str, size: int) -> float:
    """Bytes of the states of one parameter of `size` bytes. Paged states count as if on the device, an upper bound.

    Raises UsageError for an optimizer that is not in the table.

    >>> state_bytes_of("adamw_torch_fused", 2), state_bytes_of("paged_adamw_8bit", 4)
    (4, 2.03125)
    """
    if optim not in OPTIMIZERS:
        raise UsageError(f"--optim: got {optim}, whose memory is not known; the planner knows {', '.join(OPTIMIZERS)}")
    states, kind = OPTIMIZERS[optim]
    return states * {"own": size, "float32": FLOAT, "8bit": 1 + SCALES}[kind]
