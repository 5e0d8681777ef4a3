"""Bytes of a run, part by part; pure arithmetic over `Dims` and `PlannedRun`.

Two moments of a step are planned apart, rollout and training, because they do not come together. What autograd keeps
is counted per layer and token from what transformers' modules and `trainer.forward.shared_prefix` save; the layout is
that of `open_r1.trainer.forward.packing`: a prompt once, then its G completions. How near it comes is measured in
`tests/plan/test_plan.py` (CPU) by `local_scripts/dev/benchmarks/measure_memory.py`.
"""

from open_r1.plan.dims import Dims, Tower
from open_r1.plan.settings import FLOAT, Engine, PlannedRun

GIB = 2**30
LIVE_ZERO3 = 10**9  # parameters that ZeRO-3 may keep gathered (stage3_max_live_parameters), and of a step's sub-group
TILE = (4096, 32768)  # tokens and vocabulary of a tile of TRL's fused head
TILE_COPIES = {"cuda": 1, "cpu": 7}  # without Triton a tile goes through torch, a copy for each operation
ROOM = 128  # tokens by which a KV cache grows, see open_r1.rollout.generation.RoomyLayer
DEVICE_BASE = {"cuda": 2 * GIB, "cpu": 0}  # CUDA context, NCCL, cuBLAS workspaces
HOST_BASE = 4 * GIB  # a rank's Python, libraries, CUDA's part on the host, images under way
PINNED = 1.5  # offloaded states take so much more than their size (DeepSpeed's documentation, "Memory Requirements")


def language_alone(run: PlannedRun) -> bool:
    """Nothing flows back into the vision tower."""
    return run.freeze_vision or run.lora_r > 0


def trained(dims: Dims, run: PlannedRun) -> int:
    """Parameters that the optimizer moves."""
    if run.lora_r:
        return dims.lora(run.lora_r)
    return dims.text.parameters if run.freeze_vision else dims.parameters


def state(total: int, moving: int, size: int, engine: Engine, ranks: int, reference: bool) -> dict[str, float]:
    """Bytes on a device of `total_bytes` parameters of `size` bytes, of which `moving` are trained by AdamW.

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
        "gradients": 0 if engine.offload_optimizer else moving * size / share(2),
        "optimizer": 0 if engine.offload_optimizer else moving * optimizer_bytes(size, engine) / share(1),
        "reference": weights if reference else 0,
    }


def optimizer_bytes(size: int, engine: Engine) -> int:
    """Of a trained parameter: AdamW's two moments in float32, and a float32 master of a 16-bit weight."""
    return 12 if engine.deepspeed and size == 2 else 8


def states(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """`state` of a run, its adapters included, which are float32."""
    moving = trained(dims, run)
    reference = run.reference and not run.lora_r  # with adapters it is the model without them
    if not run.lora_r:
        return state(dims.parameters, moving, run.weights, run.engine, run.gpus, reference)
    base = state(dims.parameters, 0, run.weights, run.engine, run.gpus, reference)
    adapters = state(moving, moving, FLOAT, run.engine, run.gpus, reference=False)
    return {name: base[name] + adapters[name] for name in base}


def buffers(dims: Dims, run: PlannedRun) -> float:
    """What engines hold beside their states: DDP's buckets, ZeRO-3's gathered layers, autocast's copies of weights."""
    moving = trained(dims, run)
    held = 0.0
    if run.engine.stage == 0 and run.gpus > 1:
        held += moving * (FLOAT if run.lora_r else run.weights)
    if run.engine.stage == 3:
        held += min(dims.parameters, LIVE_ZERO3) * run.weights
    if run.compute < run.weights:
        held += moving * run.compute
    return held


# ------------------------------------------------------------------------------------------------------- activations


def norm_bytes(run: PlannedRun) -> int:
    """Of a number of a layer's input that autograd keeps for a norm: input, normalised, scaled."""
    if run.compute == run.weights == FLOAT:
        return 12
    return 8 if run.weights == 2 else 14  # 4 + 2 + 2; under autocast the stream stays float32: 4 + 4 + 4 + 2


def stream_bytes(run: PlannedRun) -> int:
    """Of a number that goes from layer to layer."""
    return max(run.weights, run.compute)


def feed_forward(tower: Tower) -> int:
    """Numbers a token that the feed-forward part keeps: gate, its activation, up and their product; or two."""
    return (4 if tower.gated else 2) * tower.intermediate


def text_layer(dims: Dims, run: PlannedRun) -> float:
    """Bytes that one layer of the language model keeps for the backward pass of a packed batch."""
    t, groups = dims.text, run.batch // run.group
    before, after = groups * (run.prompt - 1), run.batch * run.completion
    tokens, width, kv = before + after, t.heads * t.head_dim, 2 * t.kv_heads * t.head_dim
    attention = tokens * (width + kv + 2 * t.head_dim)  # queries, keys and values, M-RoPE's cosines and sines
    attention += after * width + run.batch * (run.prompt - 1 + run.completion) * kv  # completions behind their prefix
    attention += 2 * tokens * width  # what attention puts out, and in order
    heads = t.heads // t.kv_heads
    masks = (1 if groups == 1 else run.batch) * heads * run.completion * (run.prompt + run.completion)
    kept = attention + masks + tokens * feed_forward(t)
    cast = tokens * (5 * t.hidden + width + t.intermediate) * FLOAT if run.lora_r else 0  # inputs of float32 adapters
    return kept * run.compute + 2 * tokens * t.hidden * norm_bytes(run) + cast


def vision_layer(dims: Dims, run: PlannedRun) -> float:
    """Bytes that one layer of the vision tower keeps for the images of a batch."""
    v, patches = dims.vision, run.patches * run.batch // run.group
    kept = (3 + 2 + 2) * v.hidden + feed_forward(v)  # qkv, turned queries and keys, attention's output twice
    return patches * (kept * run.compute + 2 * v.hidden * norm_bytes(run))


def layer_backward(dims: Dims, run: PlannedRun) -> float:
    """Gradients of numbers inside the layer that the backward pass is in."""
    tokens = run.batch // run.group * (run.prompt - 1) + run.batch * run.completion
    return tokens * (2 * dims.text.intermediate + 2 * dims.text.hidden) * run.compute


def activations(dims: Dims, run: PlannedRun) -> float:
    """Bytes kept for the backward pass: all layers, or with checkpointing their inputs and the layer recomputed."""
    t, v, groups = dims.text, dims.vision, run.batch // run.group
    tokens = groups * (run.prompt - 1) + run.batch * run.completion
    towers = [(t.layers, text_layer(dims, run), tokens * t.hidden * stream_bytes(run))]
    if not language_alone(run):
        towers.append((v.layers, vision_layer(dims, run), groups * run.patches * v.hidden * stream_bytes(run)))
    if run.checkpointing:
        return sum(layers * entry for layers, _, entry in towers) + max(layer for _, layer, _ in towers)
    return sum(layers * layer for layers, layer, _ in towers)


def head(dims: Dims, run: PlannedRun) -> float:
    """The fused head's backward pass: tiles of logits, gradients of hidden states and of the head in float32."""
    tokens, hidden = run.batch * run.completion, dims.text.hidden
    tile = min(tokens, TILE[0]) * min(dims.vocab, TILE[1])
    size = run.compute if run.device == "cuda" else FLOAT
    weight = 0 if run.lora_r else dims.vocab * hidden * (FLOAT + (run.weights if run.weights < FLOAT else 0))
    return tile * size * TILE_COPIES[run.device] + tokens * hidden * (run.compute + FLOAT) + weight


def pixels(dims: Dims, run: PlannedRun) -> float:
    """Pictures of a generation in float32, which stay on the device until they are trained on; two frames a patch."""
    return run.rows // run.group * run.patches * 3 * 2 * dims.patch**2 * FLOAT


# ------------------------------------------------------------------------------------------------------------- peaks


def training_bytes(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Bytes of a device at the peak of a training step."""
    held = states(dims, run)
    kept, inside = activations(dims, run), layer_backward(dims, run)
    at_head = max(head(dims, run), inside)
    if run.steps == 1 and run.engine.stage == 0:  # gradients come as activations go: the peak is at either end
        grown, last = held.pop("gradients"), (text_layer if language_alone(run) else vision_layer)(dims, run)
        parts = {"activations": kept, "head and backward": at_head}
        if grown + last + inside > kept + at_head:
            parts = {"gradients": grown, "activations": last, "head and backward": inside}
    else:
        step = 0.0 if run.engine.offload_optimizer else stepping(dims, run)
        parts = {"activations": kept, "head and backward": max(at_head, step - kept)}
    asleep = run.vllm != "colocate" or run.vllm_sleep
    parts |= {"engine": buffers(dims, run), "pixels": pixels(dims, run)}
    parts["vLLM"] = 0.0 if asleep else run.vllm_share * run.device_bytes
    return held | parts | {"base": base(run)}


def stepping(dims: Dims, run: PlannedRun) -> float:
    """Float32 gradients that DeepSpeed makes for an optimizer step, when no activations are held."""
    if not run.engine.deepspeed:
        return 0.0
    shard = trained(dims, run) / run.gpus
    return FLOAT * (min(shard, LIVE_ZERO3) if run.engine.stage == 3 else shard)


def base(run: PlannedRun) -> float:
    return DEVICE_BASE[run.device]


def rollout_bytes(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Bytes of a device at the peak of a rollout: no gradients, the KV cache of all completions of a generation."""
    held = states(dims, run) | {"gradients": 0.0}
    parts = {"engine": run.compute * trained(dims, run) if run.compute < run.weights else 0.0}
    parts |= {"pixels": pixels(dims, run), "base": base(run)}
    if run.vllm == "colocate":
        return held | parts | {"vLLM": run.vllm_share * run.device_bytes}
    if run.vllm == "server":
        return held | parts
    if run.engine.stage == 3:
        parts["gathered"] = (dims.parameters if run.gather else min(dims.parameters, LIVE_ZERO3)) * run.weights
    return held | parts | {"KV cache": kv_cache(dims, run), "forward": generation(dims, run)}


def kv_cache(dims: Dims, run: PlannedRun) -> float:
    """Keys and values of each completion's whole row: a prompt's are computed once, and copied to its completions."""
    t = dims.text
    tokens = run.prompt + -(-run.completion // ROOM) * ROOM
    layer = run.rows * tokens * 2 * t.kv_heads * t.head_dim * run.compute
    return layer * (t.layers + 1)  # one layer twice, while it grows


def generation(dims: Dims, run: PlannedRun) -> float:
    """The largest forward pass of a rollout: a vision layer, a layer of the prefill, or a step's logits as sampled."""
    t, v, prompts = dims.text, dims.vision, run.rows // run.group

    def inside(tower: Tower, tokens: int) -> float:
        projections = (3 if tower.gated else 2) * tower.intermediate
        return tokens * (max(projections, 4 * tower.hidden) + 2 * tower.hidden) * run.compute

    logits = run.rows * dims.vocab * (run.compute + 4 * FLOAT)
    return max(inside(v, prompts * run.patches), inside(t, prompts * run.prompt), logits)


def host(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Bytes of a node's main memory, at the larger of two moments: while models are loaded, and in a step."""
    ranks, moving, e = run.gpus // run.nodes, trained(dims, run), run.engine
    copies = 1 if e.stage == 3 else ranks  # ZeRO-3 shards weights as they are read
    loading = dims.parameters * run.weights * copies * (2 if run.reference and not run.lora_r else 1)
    optimizer = moving * (optimizer_bytes(run.weights, e) + FLOAT) * PINNED / run.nodes if e.offload_optimizer else 0
    weights = dims.parameters * run.weights * PINNED / run.nodes if e.offload_weights else 0
    weights *= 2 if run.reference and not run.lora_r else 1
    saving = dims.parameters * run.weights if e.stage == 3 else 0  # rank 0 gathers the model to write it
    parts = {"base": HOST_BASE * ranks, "optimizer": optimizer, "weights": weights}
    return parts | {"loading or saving": max(loading, saving)}


def total_bytes(parts: dict[str, float]) -> float:
    return sum(parts.values())
