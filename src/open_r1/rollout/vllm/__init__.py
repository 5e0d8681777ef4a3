"""vLLM as the engine of rollouts; prompts and weights are compared with the trainer's at every use.

`types`: requests and completions. `policy_weights`: the policy's weights under vLLM's names. `colocate`: an engine in
the trainer's process. `server_client`: a client of `run_scripts/vllm_server.sh`, with `wire` (HTTP), `weight_channel`
(weights) and `background_call`. `worker`: code inside vLLM. `adapter`: an adapter that is sent alone, and
`adapter_engine`, the same inside vLLM. `offline` and `engine_loop`: shared by `colocate` and the evaluator.
`turn_requests`: the requests of rows with tools.
"""
