"""The task `default`: any question with a short answer, the prompts of `open_r1.data.chat`, the method `default`."""

from open_r1.tasks.task import Task

DEFAULT = Task(name="default", method="default")
