"""Bytes that a backward pass needs: what autograd keeps per layer and token of transformers' modules and of ours.

The layout is that of `open_r1.trainer.forward.packing`: a prompt once, then its G completions. A number has the run's
`bytes_per_computed_number`; on CUDA in half precision attention is torch's flash kernel, without masks.
"""

from open_r1.plan.dims import Dims, Tower
from open_r1.plan.settings import FLOAT, PlannedRun
from open_r1.plan.states import language_only

TILE = (4096, 32768)  # tokens and vocabulary of a tile of TRL's fused head
TILE_COPIES = {"cuda": 1, "cpu": 7}  # without Triton a tile goes through torch, a copy for each operation


def stream_bytes(run: PlannedRun) -> int:
    """Bytes of a number that goes from layer to layer."""
    return max(run.bytes_per_weight, run.bytes_per_computed_number)


def norm_bytes(run: PlannedRun, trained: bool) -> int:
    """Bytes kept for a norm per number: its input in float32, and, for a weight's gradient, the normalised one."""
    return FLOAT + (stream_bytes(run) if trained else 0)


def linear_inputs(tower: Tower, copies: bool) -> int:
    """Numbers per token that go into linear layers and are kept: each once, or, where each layer casts its own input,
    `copies` of those that several layers share."""
    into_feed_forward = (2 if tower.gated else 1) if copies else 1
    into_attention = 3 if copies else 1
    return (into_attention + into_feed_forward) * tower.hidden + tower.heads * tower.head_dim + tower.intermediate


def feed_forward_numbers(tower: Tower) -> int:
    """Numbers per token that the feed-forward part keeps beside its linear layers' inputs: gate, its activation and
    up; ungated: what the activation takes."""
    return (3 if tower.gated else 1) * tower.intermediate


def text_linear_bytes(dims: Dims, run: PlannedRun) -> int:
    """Bytes per token kept for the linear layers of a layer of the language model, those of adapters included.

    peft gives adapters a copy of each input, in float32 or in autocast's type; around 4-bit layers under autocast it
    gives them the input itself.
    """
    casts = run.bytes_per_computed_number < run.bytes_per_weight
    if not run.lora_r:
        return linear_inputs(dims.text, casts) * run.bytes_per_computed_number
    size = run.bytes_per_computed_number if run.by_autocast else FLOAT
    layers = 7 if dims.text.gated else 6
    return (linear_inputs(dims.text, casts or not (run.four_bit and run.by_autocast)) + layers * run.lora_r) * size


def text_layer_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes that one layer of the language model keeps for the backward pass of a packed batch."""
    t, completions, completion_tokens = dims.text, run.batch_completions, run.completion_tokens
    before, after = run.batch_groups * (run.prompt_tokens - 1), completions * completion_tokens
    tokens, width, kv = before + after, t.heads * t.head_dim, 2 * t.kv_heads * t.head_dim
    numbers = tokens * (2 * width + kv)  # queries, keys and values, what the kernel returned
    numbers += completions * (run.prompt_tokens - 1 + completion_tokens) * kv  # keys and values behind their prefix
    if not run.flash:  # queries of completions in another order, and masks
        rows = (1 if run.batch_groups == 1 else completions) * (t.heads // t.kv_heads) * completion_tokens
        numbers += after * width + rows * (run.prompt_tokens + completion_tokens)
    numbers += tokens * feed_forward_numbers(t)
    rotary = tokens * 2 * t.head_dim * stream_bytes(run)  # M-RoPE's cosines and sines
    norms = 2 * tokens * t.hidden * norm_bytes(run, trained=not run.lora_r)
    return numbers * run.bytes_per_computed_number + rotary + norms + tokens * text_linear_bytes(dims, run)


def vision_layer_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes that one layer of the vision tower keeps for the images of a batch."""
    v, patches = dims.vision, run.batch_patches
    casts = run.bytes_per_computed_number < run.bytes_per_weight
    into_attention = 1  # one layer for queries, keys and values
    numbers = linear_inputs(v, casts) - (3 - into_attention) * v.hidden * casts
    numbers += (3 + 2) * v.hidden + feed_forward_numbers(v)  # queries, keys and values, and the turned two
    numbers += 0 if run.flash else v.hidden  # windows one behind the other
    return patches * (numbers * run.bytes_per_computed_number + 2 * v.hidden * norm_bytes(run, trained=True))


def layer_gradient_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes of the gradients inside the layer of the language model that the backward pass is in; around 4-bit layers
    also of the largest weight made whole, else of an adapter's input in float32 and its gradient."""
    numbers = run.packed_tokens * (2 * dims.text.intermediate + 2 * dims.text.hidden)
    whole = max((inputs * outputs for inputs, outputs in dims.linears), default=0) if run.four_bit else 0
    cast = 2 * run.packed_tokens * dims.text.intermediate * FLOAT if run.lora_r and not run.four_bit else 0
    return (numbers + whole) * run.bytes_per_computed_number + cast


def vision_gradient_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes of the gradients inside the layer of the vision tower that the backward pass is in."""
    v = dims.vision
    numbers = run.batch_patches * (3 * v.intermediate + 2 * v.hidden)
    return float(numbers * run.bytes_per_computed_number)


def kept_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes kept for the backward pass when it begins: all layers, or with checkpointing what goes into them."""
    entry = run.packed_tokens * dims.text.hidden * stream_bytes(run)
    layer = entry if run.gradient_checkpointing else text_layer_bytes(dims, run)
    return dims.text.layers * layer + (0.0 if language_only(run) else vision_bytes(dims, run))


def vision_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes that the vision tower keeps for the backward pass: all layers, or with checkpointing their inputs."""
    v = dims.vision
    entry = run.batch_patches * v.hidden * stream_bytes(run)
    return v.layers * (entry if run.gradient_checkpointing else vision_layer_bytes(dims, run))


def tile_bytes(dims: Dims, run: PlannedRun) -> float:
    """Bytes of a tile of logits, as the fused head makes them one after the other."""
    tokens = run.batch_completions * run.completion_tokens
    size = run.bytes_per_computed_number if run.device == "cuda" else FLOAT
    return float(min(tokens, TILE[0]) * min(dims.vocab, TILE[1]) * size * TILE_COPIES[run.device])


def head_bytes(dims: Dims, run: PlannedRun) -> float:
    """The fused head's backward pass: a tile, gradients of hidden states and of the head in float32 and their type."""
    hidden = run.batch_completions * run.completion_tokens * dims.text.hidden
    master = run.bytes_per_weight if run.bytes_per_weight < FLOAT else 0
    weight = 0 if run.lora_r else dims.vocab * dims.text.hidden * (FLOAT + master)
    return tile_bytes(dims, run) + hidden * (run.bytes_per_computed_number + FLOAT) + weight


def embedding_gradient(dims: Dims, run: PlannedRun) -> float:
    """Bytes of the gradient of the head, or of the embeddings; 0 where they are not trained."""
    return 0.0 if run.lora_r else float(dims.vocab * dims.text.hidden * run.bytes_per_weight)
