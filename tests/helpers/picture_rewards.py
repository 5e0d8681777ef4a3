"""A user's reward file for surveys: one of a completion, one in TRL's form that asks for ids and pictures."""


def short(completion, record):
    return 1.0 if len(completion) < 40 else 0.25


def as_seen(completions, completion_ids, images, **columns):
    rows = zip(completion_ids, images, strict=True)
    return [len(ids) + pictures[0].size[0] / 1000 if pictures else None for ids, pictures in rows]


def of_trainer(completions, trainer_state, **columns):
    return [0.0] * len(completions)
