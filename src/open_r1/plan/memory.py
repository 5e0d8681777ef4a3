"""Bytes of a run, part by part; pure arithmetic over `Dims` and `PlannedRun`.

Rollout and training are planned apart, as they come one after the other. What autograd keeps is counted per layer and
token from what transformers' modules and `trainer.forward.shared_prefix` save; the layout is that of
`open_r1.trainer.forward.packing`: a prompt once, then its G completions. `tests/plan/test_plan.py` compares it with
peaks that `local_scripts/dev/benchmarks/measure_memory.py` measured on the CPU.
"""

from open_r1.plan.dims import Dims, Tower
from open_r1.plan.settings import FLOAT, Engine, PlannedRun

GIB = 2**30
LIVE_ZERO3 = 10**9  # parameters that ZeRO-3 may keep gathered (stage3_max_live_parameters), and of a step's sub-group
TILE = (4096, 32768)  # tokens and vocabulary of a tile of TRL's fused head
TILE_COPIES = {"cuda": 1, "cpu": 7}  # without Triton a tile goes through torch, a copy for each operation
ROOM = 128  # tokens by which a KV cache grows, see open_r1.rollout.generation.PreallocatedLayer
DEVICE_BASE = {"cuda": 2 * GIB, "cpu": 0}  # CUDA context, NCCL, cuBLAS workspaces
HOST_BASE = 4 * GIB  # a rank's Python, libraries, CUDA's part on the host, images under way
PINNED = 1.5  # offloaded states take so much more than their size (DeepSpeed's documentation, "Memory Requirements")


def language_only(run: PlannedRun) -> bool:
    """Whether gradients stop before the vision tower."""
    return run.freeze_vision or run.lora_r > 0


def trained_parameters(dims: Dims, run: PlannedRun) -> int:
    """How many parameters the optimizer changes."""
    if run.lora_r:
        return dims.lora(run.lora_r)
    return dims.text.parameters if run.freeze_vision else dims.parameters


def state(total: int, trained: int, size: int, engine: Engine, ranks: int, reference: bool) -> dict[str, float]:
    """Part -> bytes on a device of `total` parameters of `size` bytes, of which AdamW trains `trained`.

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
        "optimizer": 0 if engine.offload_optimizer else trained * optimizer_bytes(size, engine) / share(1),
        "reference": weights if reference else 0,
    }


def optimizer_bytes(size: int, engine: Engine) -> int:
    """Bytes a trained parameter: AdamW's two moments in float32, and a float32 master of a 16-bit weight."""
    return 12 if engine.deepspeed and size == 2 else 8


def state_bytes(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Part -> bytes of a run's `state`, its float32 adapters included."""
    trained = trained_parameters(dims, run)
    reference = run.reference_model and not run.lora_r  # with adapters it is the model without them
    if not run.lora_r:
        return state(dims.parameters, trained, run.bytes_per_weight, run.engine, run.gpus, reference)
    base = state(dims.parameters, 0, run.bytes_per_weight, run.engine, run.gpus, reference)
    adapters = state(trained, trained, FLOAT, run.engine, run.gpus, reference=False)
    return {name: base[name] + adapters[name] for name in base}


def engine_buffers(dims: Dims, run: PlannedRun) -> float:
    """Bytes that engines hold beside states: DDP's buckets, ZeRO-3's gathered layers, autocast's copies of weights."""
    trained = trained_parameters(dims, run)
    size = 0.0
    if run.engine.stage == 0 and run.gpus > 1:
        size += trained * (FLOAT if run.lora_r else run.bytes_per_weight)
    if run.engine.stage == 3:
        size += min(dims.parameters, LIVE_ZERO3) * run.bytes_per_weight
    if run.bytes_per_computed_number < run.bytes_per_weight:
        size += trained * run.bytes_per_computed_number
    return size


# ------------------------------------------------------------------------------------------------------- activations


def norm_bytes(run: PlannedRun) -> int:
    """Bytes that autograd keeps for a norm per number of its input: input, normalised, scaled."""
    if run.bytes_per_computed_number == run.bytes_per_weight == FLOAT:
        return 12
    return 8 if run.bytes_per_weight == 2 else 14  # 4 + 2 + 2; under autocast the stream stays float32: 4 + 4 + 4 + 2


def stream_bytes(run: PlannedRun) -> int:
    """Bytes of a number that goes from layer to layer."""
    return max(run.bytes_per_weight, run.bytes_per_computed_number)


def feed_forward_numbers(tower: Tower) -> int:
    """Numbers per token that the feed-forward part keeps: gate, its activation, up and their product; ungated: two."""
    return (4 if tower.gated else 2) * tower.intermediate


def text_layer_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes that one layer of the language model keeps for the backward pass of a packed batch."""
    t, completions, completion_tokens = dims.text, run.batch_completions, run.completion_tokens
    before, after = run.batch_groups * (run.prompt_tokens - 1), completions * completion_tokens
    tokens, width, kv = before + after, t.heads * t.head_dim, 2 * t.kv_heads * t.head_dim
    attention = tokens * (width + kv + 2 * t.head_dim)  # queries, keys and values, M-RoPE's cosines and sines
    attention += after * width + completions * (run.prompt_tokens - 1 + completion_tokens) * kv  # behind their prefix
    attention += 2 * tokens * width  # the output of attention, and the same in order
    masked_rows = (1 if run.batch_groups == 1 else completions) * (t.heads // t.kv_heads) * completion_tokens
    masks = masked_rows * (run.prompt_tokens + completion_tokens)
    numbers = attention + masks + tokens * feed_forward_numbers(t)
    cast = tokens * (5 * t.hidden + width + t.intermediate) * FLOAT if run.lora_r else 0  # inputs of float32 adapters
    return numbers * run.bytes_per_computed_number + 2 * tokens * t.hidden * norm_bytes(run) + cast


def vision_layer_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes that one layer of the vision tower keeps for the images of a batch."""
    v, patches = dims.vision, run.patches_per_prompt * run.batch_groups
    numbers = (3 + 2 + 2) * v.hidden + feed_forward_numbers(
        v
    )  # qkv, rotated queries and keys, attention's output twice
    return patches * (numbers * run.bytes_per_computed_number + 2 * v.hidden * norm_bytes(run))


def layer_gradient_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes of the gradients inside the one layer that the backward pass is in."""
    numbers = run.packed_tokens * (2 * dims.text.intermediate + 2 * dims.text.hidden)
    return numbers * run.bytes_per_computed_number


def activation_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes kept for the backward pass: all layers, or with checkpointing their inputs and the layer recomputed."""
    t, v = dims.text, dims.vision
    towers = [(t.layers, text_layer_bytes(dims, run), run.packed_tokens * t.hidden * stream_bytes(run))]
    if not language_only(run):
        patches = run.batch_groups * run.patches_per_prompt
        towers.append((v.layers, vision_layer_bytes(dims, run), patches * v.hidden * stream_bytes(run)))
    if run.gradient_checkpointing:
        return sum(layers * entry for layers, _, entry in towers) + max(layer for _, layer, _ in towers)
    return sum(layers * layer for layers, layer, _ in towers)


def head_bytes(dims: Dims, run: PlannedRun) -> float:
    """The fused head's backward pass: tiles of logits, gradients of hidden states and of the head in float32."""
    tokens, hidden = run.batch_completions * run.completion_tokens, dims.text.hidden
    tile = min(tokens, TILE[0]) * min(dims.vocab, TILE[1])
    size = run.bytes_per_computed_number if run.device == "cuda" else FLOAT
    master = run.bytes_per_weight if run.bytes_per_weight < FLOAT else 0
    weight = 0 if run.lora_r else dims.vocab * hidden * (FLOAT + master)
    return tile * size * TILE_COPIES[run.device] + tokens * hidden * (run.bytes_per_computed_number + FLOAT) + weight


def pixel_bytes(dims: Dims, run: PlannedRun) -> float:
    """A generation's pictures in float32, on the device until they are trained on; a patch has two frames."""
    return run.generation_groups * run.patches_per_prompt * 3 * 2 * dims.patch**2 * FLOAT


# ------------------------------------------------------------------------------------------------------------- peaks


def training_bytes(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Part -> bytes of a device at the peak of a training step."""
    states = state_bytes(dims, run)
    activations, gradients_of_layer = activation_bytes(dims, run), layer_gradient_bytes(dims, run)
    at_head = max(head_bytes(dims, run), gradients_of_layer)
    if run.accumulation_steps == 1 and run.engine.stage == 0:
        # gradients grow while activations are freed: the peak is at the head or at the last layer
        gradients, last_layer = (
            states.pop("gradients"),
            (text_layer_bytes if language_only(run) else vision_layer_bytes),
        )
        at_end = last_layer(dims, run)
        parts = {"activations": activations, "head and backward": at_head}
        if gradients + at_end + gradients_of_layer > activations + at_head:
            parts = {"gradients": gradients, "activations": at_end, "head and backward": gradients_of_layer}
    else:
        step = 0.0 if run.engine.offload_optimizer else optimizer_step_bytes(dims, run)
        parts = {"activations": activations, "head and backward": max(at_head, step - activations)}
    off_device = run.vllm_mode != "colocate" or run.vllm_sleep_mode
    parts |= {"engine": engine_buffers(dims, run), "pixels": pixel_bytes(dims, run)}
    parts["vLLM"] = 0.0 if off_device else run.vllm_memory_share * run.device_bytes
    return states | parts | {"base": base_bytes(run)}


def optimizer_step_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes of the float32 gradients that DeepSpeed makes for an optimizer step, after the activations are freed."""
    if not run.engine.deepspeed:
        return 0.0
    shard = trained_parameters(dims, run) / run.gpus
    return FLOAT * (min(shard, LIVE_ZERO3) if run.engine.stage == 3 else shard)


def base_bytes(run: PlannedRun) -> float:
    """Bytes of a device before any model: see `DEVICE_BASE`."""
    return DEVICE_BASE[run.device]


def rollout_bytes(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Part -> bytes of a device at the peak of a rollout: no gradients, the KV cache of all completions of a
    generation."""
    states = state_bytes(dims, run) | {"gradients": 0.0}
    autocast = run.bytes_per_computed_number < run.bytes_per_weight
    parts = {"engine": run.bytes_per_computed_number * trained_parameters(dims, run) if autocast else 0.0}
    parts |= {"pixels": pixel_bytes(dims, run), "base": base_bytes(run)}
    if run.vllm_mode == "colocate":
        return states | parts | {"vLLM": run.vllm_memory_share * run.device_bytes}
    if run.vllm_mode == "server":
        return states | parts
    if run.engine.stage == 3:
        gathered = dims.parameters if run.gather_for_rollouts else min(dims.parameters, LIVE_ZERO3)
        parts["gathered"] = gathered * run.bytes_per_weight
    return states | parts | {"KV cache": kv_cache(dims, run), "forward": forward_bytes(dims, run)}


def kv_cache(dims: Dims, run: PlannedRun) -> float:
    """Bytes of the keys and values of each completion's whole row, its copy of the prompt's included."""
    t = dims.text
    tokens = run.prompt_tokens + -(-run.completion_tokens // ROOM) * ROOM
    layer = run.generation_completions * tokens * 2 * t.kv_heads * t.head_dim * run.bytes_per_computed_number
    return layer * (t.layers + 1)  # one layer twice, while it grows


def forward_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes of a rollout's largest forward pass: a vision layer, a layer of the prefill, or the logits of one step."""
    prompts = run.generation_groups

    def layer(tower: Tower, tokens: int) -> float:
        projections = (3 if tower.gated else 2) * tower.intermediate
        return tokens * (max(projections, 4 * tower.hidden) + 2 * tower.hidden) * run.bytes_per_computed_number

    logits = run.generation_completions * dims.vocab * (run.bytes_per_computed_number + 4 * FLOAT)
    vision, prefill = (
        layer(dims.vision, prompts * run.patches_per_prompt),
        layer(dims.text, prompts * run.prompt_tokens),
    )
    return max(vision, prefill, logits)


def host_memory(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Part -> bytes of a node's main memory, at the larger of two moments: while models are loaded, and in a step."""
    ranks, trained, engine = run.gpus // run.nodes, trained_parameters(dims, run), run.engine
    model = dims.parameters * run.bytes_per_weight
    models = 2 if run.reference_model and not run.lora_r else 1
    loading = model * (1 if engine.stage == 3 else ranks) * models  # ZeRO-3 shards weights as they are read
    per_parameter = optimizer_bytes(run.bytes_per_weight, engine) + FLOAT
    optimizer = trained * per_parameter * PINNED / run.nodes if engine.offload_optimizer else 0
    weights = model * PINNED / run.nodes * models if engine.offload_weights else 0
    saving = model if engine.stage == 3 else 0  # rank 0 gathers the model to write it
    parts = {"base": HOST_BASE * ranks, "optimizer": optimizer, "weights": weights}
    return parts | {"loading or saving": max(loading, saving)}


def total_bytes(parts: dict[str, float]) -> float:
    return sum(parts.values())
