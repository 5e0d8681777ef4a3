"""Bytes of a run, part by part; pure arithmetic over `Dims` and `PlannedRun`.

Rollout and training are planned apart, as they come one after the other. `tests/plan/test_plan.py` compares plans
with peaks that `local_scripts/dev/benchmarks/measure_memory.py` measured on the CPU, `test_rehearsed_peaks.py` with
those of runs on CUDA tensors without a GPU.
"""

from open_r1.plan.activations import (
    embedding_gradient,
    head_bytes,
    kept_bytes,
    layer_gradient_bytes,
    text_layer_bytes,
    tile_bytes,
    vision_bytes,
    vision_gradient_bytes,
    vision_layer_bytes,
)
from open_r1.plan.dims import Dims, Tower
from open_r1.plan.settings import FLOAT, PlannedRun
from open_r1.plan.states import (
    LIVE_ZERO3,
    autocast_copies,
    engine_buffers,
    language_only,
    optimizer_bytes,
    state_bytes,
    trained_parameters,
)

GIB = 2**30
ROOM = 128  # tokens by which a KV cache grows, see open_r1.rollout.prompt_cache.PreallocatedLayer
DEVICE_BASE = {"cuda": 2 * GIB, "cpu": 0}  # CUDA context, NCCL, cuBLAS workspaces
HOST_BASE = 4 * GIB  # a rank's Python, libraries, CUDA's part on the host, images under way
PINNED = 1.5  # offloaded states take so much more than their size (DeepSpeed's documentation, "Memory Requirements")


def pixel_bytes(dims: Dims, run: PlannedRun) -> float:
    """A generation's pictures in float32, on the device until they are trained on; a patch has two frames."""
    return run.generation_patches * 3 * 2 * dims.patch**2 * FLOAT


def training_bytes(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Part -> bytes of a device at the peak of a training step."""
    states, part = state_bytes(dims, run), run.largest_part
    gradients = states.pop("gradients")
    # the first pass makes gradients while it frees activations, later ones add to them
    adds = run.accumulation_steps > 1 or part.batch_completions < run.batch_completions or run.engine.deepspeed
    moments = [end_of_forward, at_head, in_text, after_text, at_end]
    found = [moment(dims, part, gradients) | ({"gradients": gradients} if adds else {}) for moment in moments]
    found.append({"gradients": gradients, "head and backward": optimizer_step_bytes(dims, run)})
    if adds:
        found[-2]["head and backward"] += embedding_gradient(dims, run)
    parts = {"gradients": 0.0, "activations": 0.0, "head and backward": 0.0} | max(found, key=total_bytes)
    off_device = run.vllm_mode != "colocate" or run.vllm_sleep_mode
    parts |= {"engine": engine_buffers(dims, run), "pixels": pixel_bytes(dims, run)}
    parts["vLLM"] = 0.0 if off_device else run.vllm_memory_share * run.device_bytes
    return states | parts | {"base": base_bytes(run)}


def end_of_forward(dims: Dims, run: PlannedRun, gradients: float) -> dict[str, float]:
    """Part -> bytes before the backward pass, when autocast still holds copies of all trained weights."""
    kept = {"activations": kept_bytes(dims, run), "autocast": autocast_copies(dims, run)}
    return kept | {"head and backward": tile_bytes(dims, run)}


def at_head(dims: Dims, run: PlannedRun, gradients: float) -> dict[str, float]:
    """Part -> bytes in the head's backward pass; with checkpointing no copy of autocast is kept for it."""
    copies = 0.0 if run.gradient_checkpointing else autocast_copies(dims, run)
    return {"activations": kept_bytes(dims, run), "autocast": copies, "head and backward": head_bytes(dims, run)}


def in_text(dims: Dims, run: PlannedRun, gradients: float) -> dict[str, float]:
    """Part -> bytes in the first layer that the backward pass enters, behind the head."""
    kept = at_head(dims, run, gradients) | {"head and backward": layer_gradient_bytes(dims, run)}
    kept["activations"] += text_layer_bytes(dims, run) if run.gradient_checkpointing else 0.0
    return kept | {"gradients": embedding_gradient(dims, run)}


def after_text(dims: Dims, run: PlannedRun, gradients: float) -> dict[str, float]:
    """Part -> bytes when the backward pass enters the vision tower: the language model's gradients, and all that
    vision kept."""
    if language_only(run):
        return {}
    of_text = gradients * dims.text.parameters / dims.parameters
    of_text -= 0.0 if dims.tied else embedding_gradient(dims, run)  # the embeddings' comes last
    recomputed = vision_layer_bytes(dims, run) if run.gradient_checkpointing else 0.0
    copies = 0.0 if run.gradient_checkpointing else autocast_copies(dims, run)
    kept = {"activations": vision_bytes(dims, run) + recomputed}
    kept["autocast"] = copies * dims.vision.parameters / dims.parameters
    return {"gradients": of_text, **kept, "head and backward": vision_gradient_bytes(dims, run)}


def at_end(dims: Dims, run: PlannedRun, gradients: float) -> dict[str, float]:
    """Part -> bytes at the end of the backward pass: all gradients, and for embeddings that are the head too the
    second one and the sum of both."""
    again = 2 * embedding_gradient(dims, run) if dims.tied else 0.0
    return {"gradients": gradients, "head and backward": again}


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
    parts = {"autocast": autocast_copies(dims, run)} | {"pixels": pixel_bytes(dims, run), "base": base_bytes(run)}
    if run.vllm_mode == "colocate":
        return states | parts | {"vLLM": run.vllm_memory_share * run.device_bytes}
    if run.vllm_mode == "server":
        return states | parts
    if run.engine.stage == 3:
        gathered = dims.parameters if run.gather_for_rollouts else min(dims.parameters, LIVE_ZERO3)
        parts["gathered"] = gathered * run.bytes_per_weight
    parts |= {"kept rows": kept_row_bytes(dims, run)} if run.tools else {}
    return states | parts | {"KV cache": kv_cache(dims, run), "forward": forward_bytes(dims, run)}


def kv_cache(dims: Dims, run: PlannedRun) -> float:
    """Bytes of the keys and values of each completion's whole row, its copy of the prompt's included."""
    t = dims.text
    tokens = run.prompt_tokens + -(-run.completion_tokens // ROOM) * ROOM
    layer = run.generation_completions * tokens * t.cached * run.bytes_per_computed_number
    return layer * (t.caching_layers + 1)  # one layer twice, while it grows


def kept_row_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes of the keys and values that rows keep beside the cache while tools answer, at most: each completion's
    whole row, its copy of the prompt's included (`open_r1.rollout.kept_rows`)."""
    tokens = run.generation_completions * (run.prompt_tokens + run.completion_tokens)
    return tokens * dims.text.cached * dims.text.caching_layers * run.bytes_per_computed_number


def forward_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes of a rollout's largest forward pass: a vision layer, of prompts or of what tools answered, a layer of the
    prefill, or the logits of one step."""
    prompts = run.generation_groups
    of_tools = run.generation_completions * run.patches_per_completion

    def layer(tower: Tower, tokens: int) -> float:
        projections = (3 if tower.gated else 2) * tower.intermediate
        return tokens * (max(projections, 4 * tower.hidden) + 2 * tower.hidden) * run.bytes_per_computed_number

    logits = run.generation_completions * dims.vocab * (run.bytes_per_computed_number + 4 * FLOAT)
    vision, prefill = (
        layer(dims.vision, max(prompts * run.patches_per_prompt, of_tools)),
        layer(dims.text, prompts * run.prompt_tokens),
    )
    return max(vision, prefill, logits)


def host_memory(dims: Dims, run: PlannedRun) -> dict[str, float]:
    """Part -> bytes of a node's main memory, at the larger of two moments: while models are loaded, and in a step."""
    ranks, trained, engine = run.gpus // run.nodes, trained_parameters(dims, run), run.engine
    model = dims.parameters * run.bytes_per_weight
    models = 2 if run.reference_model and not run.lora_r else 1
    loading = model * (1 if engine.stage == 3 else ranks) * models  # ZeRO-3 shards weights as they are read
    per_parameter = optimizer_bytes(run.bytes_per_weight, engine, run.optim) + FLOAT
    optimizer = trained * per_parameter * PINNED / run.nodes if engine.offload_optimizer else 0
    weights = model * PINNED / run.nodes * models if engine.offload_weights else 0
    saving = model if engine.stage == 3 else 0  # rank 0 gathers the model to write it
    parts = {"base": HOST_BASE * ranks, "optimizer": optimizer, "weights": weights}
    return parts | {"loading or saving": max(loading, saving)}


def total_bytes(parts: dict[str, float]) -> float:
    return sum(parts.values())
