"""Any question with a short answer: the prompts of `open_r1.data.chat`, graded by `default`."""

from open_r1.tasks.task import Task

DEFAULT = Task(name="default", method="default")
