"""The task `math`, after multimodal open-r1 and R1-V's GeoQA: answer with an option, a number or a formula.

The method `default` compares by the kind of the gold answer: option letters as letters (or by the option's text where
the row has `options` or `choices`), all others as mathematics.
"""

from open_r1.tasks.task import Task

MATH = Task(
    name="math",
    method="default",
    prompts={
        "think": "{question}  Output the thinking process in <think> </think> and the final answer (the letter of an "
        "option, a number or a formula) in <answer> </answer> tags.",
        "direct": "{question} Output the final answer (the letter of an option, a number or a formula) in <answer> "
        "</answer> tags.",
    },
    metric="equal answers",
)
