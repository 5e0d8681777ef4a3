"""How a run begins, is watched, is stopped and ends, alone or on many ranks.

It begins alone in its folder (`lock`, `earlier`); `guard` says on the way what it does to `watchdog` and `preemption`;
`ending` leaves a checkpoint and says how to go on, unless the weights are half made (`torn`).
"""
