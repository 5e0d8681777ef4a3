"""Bytes of what stays between steps: weights, gradients, optimizer, reference model; who shards what."""

from open_r1.plan.dims import Dims
from open_r1.plan.optimizers import state_bytes_of
from open_r1.plan.settings import ADAMW, FLOAT, Engine, PlannedRun

LIVE_ZERO3 = 10**9  # parameters that ZeRO-3 may keep gathered (stage3_max_live_parameters), and of a step's sub-group
WEIGHTS_OF_SCALE, SCALES_OF_FLOAT = 64, 256  # 4-bit weights of a scale; scales in 8 bits of a float32 one


def language_only(run: PlannedRun) -> bool:
    """Whether gradients stop before the vision tower."""
    return run.freeze_vision or run.lora_r > 0


def trained_parameters(dims: Dims, run: PlannedRun) -> int:
    """How many parameters the optimizer changes."""
    if run.lora_r:
        return dims.lora(run.lora_r)
    return dims.text.parameters if run.freeze_vision else dims.parameters


def state(
    total: int, trained: int, size: int, engine: Engine, ranks: int, reference: bool, optim: str = ADAMW
) -> dict[str, float]:
    """Part -> bytes on a device of `total` parameters of `size` bytes, of which the optimizer trains `trained`.

    DeepSpeed keeps float32 masters beside 16-bit weights; what it offloads is not on the device.

    >>> from open_r1.plan.settings import ENGINES
    >>> {name: bytes_ / 1e9 for name, bytes_ in state(10**9, 10**9, 2, ENGINES["zero3"], 8, reference=True).items()}
    {'weights': 0.25, 'gradients': 0.25, 'optimizer': 1.5, 'reference': 0.25}
    """

    def share(stage: int) -> int:
        return ranks if engine.stage >= stage else 1

    weights = 0 if engine.offload_weights else total * size / share(3)
    return {
        "weights": weights,
        "gradients": 0 if engine.offload_optimizer else trained * size / share(2),
        "optimizer": 0 if engine.offload_optimizer else trained * optimizer_bytes(size, engine, optim) / share(1),
        "reference": weights if reference else 0,
    }


def optimizer_bytes(size: int, engine: Engine, optim: str = ADAMW) -> float:
    """Bytes of the optimizer for a trained parameter: its states, and DeepSpeed's float32 master of half ones."""
    if engine.deepspeed and size == 2:
        return FLOAT + state_bytes_of(optim, FLOAT)
    return state_bytes_of(optim, size)


def state_bytes(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Part -> bytes of a run's `state`, its float32 adapters included."""
    trained = trained_parameters(dims, run)
    reference = run.reference_model and not run.lora_r  # with adapters it is the model without them
    if not run.lora_r:
        return state(dims.parameters, trained, run.bytes_per_weight, run.engine, run.gpus, reference, run.optim)
    base = state(dims.parameters, 0, run.bytes_per_weight, run.engine, run.gpus, reference)
    if run.four_bit:
        base["weights"] -= four_bit_weights(dims) * (run.bytes_per_weight - four_bit_bytes(run.nested_scales))
    adapters = state(trained, trained, FLOAT, run.engine, run.gpus, reference=False, optim=run.optim)
    return {name: base[name] + adapters[name] for name in base}


def four_bit_bytes(nested: bool) -> float:
    """Bytes of a weight in 4 bits with its share of scales, which are float32, or `nested` 8 bits.

    >>> four_bit_bytes(False), four_bit_bytes(True) * 8
    (0.5625, 4.126953125)
    """
    return 0.5 + (1 + FLOAT / SCALES_OF_FLOAT if nested else FLOAT) / WEIGHTS_OF_SCALE


def four_bit_weights(dims: Dims) -> int:
    """How many weights `--load_in_4bit` rounds: those of the language model's linear layers."""
    return sum(inputs * outputs for inputs, outputs in dims.linears)


def engine_buffers(dims: Dims, run: PlannedRun) -> float:
    """Bytes that engines hold beside states: DDP's buckets, ZeRO-3's gathered layers."""
    trained = trained_parameters(dims, run)
    size = 0.0
    if run.engine.stage == 0 and run.gpus > 1:
        size += trained * (FLOAT if run.lora_r else run.bytes_per_weight)
    if run.engine.stage == 3:
        size += min(dims.parameters, LIVE_ZERO3) * run.bytes_per_weight
    return size


def autocast_copies(dims: Dims, run: PlannedRun) -> float:
    """Bytes of autocast's copies of trained float32 weights; a copy lives until the backward pass has left its
    layer."""
    size = FLOAT if run.lora_r else run.bytes_per_weight  # adapters are float32
    if run.bytes_per_computed_number >= size or not run.by_autocast:
        return 0.0
    return trained_parameters(dims, run) * float(run.bytes_per_computed_number)
