"""Referring expression comprehension as in VLM-R1: the answer is a box in JSON, the reward its IoU with the gold box.

The model speaks the coordinates of its family (`open_r1.coordinates`); gold boxes are pixels of the original image.
"""

from open_r1.tasks.task import Task

REC = Task(
    name="rec",
    method="rec",
    prompts={
        "think": "{question} First output the thinking process in <think> </think> tags and then output the final "
        "answer in <answer> </answer> tags. Output the final answer in JSON format.",
        "direct": "{question} Output the final answer in JSON format in <answer> </answer> tags.",
    },
    is_right=lambda iou: iou > 0.5,
)
