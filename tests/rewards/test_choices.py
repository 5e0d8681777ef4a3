"""Long answers in the manners of several models: whatever they discuss, their final statement is the choice."""

from itertools import product
from pathlib import Path

import pytest
from helpers.answers import CORPUS, read, score

PRICES = ["$12,000", "$14,500", "$16,250", "$18,000", "$19,750", "$21,000", "$24,000", "$26,500", "$28,000", "$30,250"]
CARS = ["red car", "blue car", "green car", "yellow car"]
ANGLES = ["30°", "45°", "60°", "75°"]
DISCUSSIONS = {
    "gpt4o geometry": r"""To find the length of side \(AB\), let's analyze the figure step by step.

1. **Identify the triangle**: Triangle \(ABC\) is right-angled at \(C\), with \(AC = 5\) and \(BC = 12\).
2. **Apply the Pythagorean theorem**:
   \[
   AB^2 = AC^2 + BC^2 = 25 + 144 = 169
   \]
   So \(AB = 13\), and angle A is smaller than angle B because side BC is opposite to A.

Point D lies on AB, and the altitude from C meets AB at D.""",
    "gpt4o listing": """Let's evaluate each option:

A. **9 cm**: This is too short, since the diagonal alone is 10 cm.
B. **12 cm**: This would require a right angle at the base.
C. **15 cm**: This matches the measured height.
D. **18 cm**: This exceeds the perimeter.

We compare these with the figure.""",
    "elimination": """Option (A) is incorrect because the slope is negative there. Option (B) can be ruled out, as
the intercept is 3 and not 5. Option (D) does not match the asymptote. If the answer were A, the curve would pass
through the origin, which it does not.""",
    "qwen": """首先，我们观察图形：每一行的图形都在顺时针旋转90度，选项A中的箭头方向与规律不符，选项D的圆点数量不对。

根据三角形内角和定理，∠A + ∠B + ∠C = 180°，所以∠C = 180° - 70° - 60° = 50°。""",
    "accounting": """**Step 1.** Compute the tax shield: Depreciation × tax rate = $40,000 × 0.35 = $14,000.

**Step 2.** NPV of Project A = -$100,000 + $60,000/(1.1) + $60,000/(1.1)^2 = $4,132.
NPV of Project B = -$100,000 + $55,000/(1.1) + $65,000/(1.1)^2 = $3,719.

Thus, Project A is better than Project B, i.e. A > B. Machine C was not considered.""",
    "chem": """The reaction is C + O2 → CO2. The enthalpy change is ΔH = -393.5 kJ (per mol). Vitamin C and
compound B do not react. At 25 °C the current is 3 A, and the heat released in I (the first experiment) is 4.98
kJ. BECAUSE: the vessel is sealed.""",
    "llava": """The image features a grid with nine squares, eight of which contain figures, while the ninth one
is empty. The figures in the grid are arranged in a way that each row contains a circle, a triangle, and a square.
I can see that the last row is missing a triangle.""",
    "latex": r"""We have
$$\begin{aligned}
A &= \pi r^2 = 9\pi \\
B &= 2A = 18\pi \\
\Rightarrow P(A \cup B) &= P(A) + P(B) - P(A \cap B)
\end{aligned}$$
where $f(C) = C^2 + D$, $\angle BAD = 30^\circ$, and $\vec{A} \times \vec{B} = \vec{C}$. Hence $2(AD + BC) = 280$.""",
    "roman": """Statement I is true, statement II is false, and statement III is true. A man walks into a bar. I
think that a careful look at Figure A and Graph B helps: in Figure A the line is steeper. Group C is the control
group.""",
    "doubt": """Hmm, it could be A or C. Let me think again. The first time I looked, I thought the answer was D.
However, the question asks for the smallest one. So is it A? No, A is larger than the others. Wait, maybe B? Let
me recompute: 3 + 4 = 7, and 7 × 2 = 14.""",
    "biology": """The diagram shows four structures labeled A, B, C, and D. Structure A is the cell wall, B is the
nucleus, C is a chloroplast and D is the vacuole. Blood type O differs from type A and type B. The T cells and B
cells are lymphocytes.""",
    "music": """The piece is in C major, and moves to the key of A minor. The chord is built on D (the
supertonic), then resolves to G. An A-flat appears in bar 3, a B natural in bar 5; the E string is tuned down.""",
    "code": """```python
A = [1, 2, 3]
B = A[::-1]
for C in A:
    print(C)
```
The loop prints each element of A. Complexity is O(n). Let me trace it: C = 1, then C = 2, then C = 3.""",
    "short": """It is the tallest bar.""",
    "headers": """### Step 1: Understand the question
We need the marginal cost at Q = 20.

### Step 2: Look at the table
| Q | TC | MC |
|---|----|----|
| A | 100 | - |
| B | 140 | 40 |
| C | 190 | 50 |

### Step 3: Compute
MC = (190 - 140) / (20 - 10) = $5 per unit.""",
}
STATEMENTS = [  # of a letter L with its text T
    "Answer: <L>",
    "**Answer: <L>**",
    "Answer: $<L>$",
    "Answer: (<L>)",
    "**Answer:** <L>",
    "Answer: <L>. <T>",
    "Answer: <L> (<T>)",
    r"Answer: \(<L>\)",
    "Final answer: <L>",
    "**Final Answer: <L>**",
    "Final Answer: **<L>**",
    "The answer is <L>.",
    "The answer is (<L>).",
    "The answer is **<L>**.",
    "The correct answer is <L>.",
    "Therefore, the correct answer is **(<L>) <T>**.",
    "Therefore, the correct answer is:\n\n**<L>. <T>**",
    "So the correct option is:\n\n(<L>) <T>",
    "Thus, the best answer is option <L>.",
    "Therefore, option <L> is correct.",
    "Hence, <L> is the correct answer.",
    "So the answer is <L>, <T>.",
    r"\boxed{<L>}",
    r"$\boxed{<L>}$",
    r"\[\boxed{\text{<L>}}\]",
    r"The final answer is $\boxed{<L>}$.",
    r"\boxed{<L>. <T>}",
    r"\boxed{\textbf{(<L>)}\ <T>}",
    "<L>",
    "**<L>**",
    "(<L>)",
    "<L>.",
    "Option <L>",
    "I would choose <L>.",
    "I'd go with option <L>.",
    "So it is <L>.",
    "This matches option <L>.",
    "Therefore, (<L>).",
    "The correct choice is <L>: <T>.",
    "The answer is <T>.",
    "The correct answer is **<T>**.",
    "Answer: <T>",
    r"\boxed{<T>}",
    r"$\boxed{\text{<T>}}$",
    "答案是<L>。",
    "故选<L>。",
    "答案：<L>",
    "因此，正确答案是<L>。",
    "所以选<L>",
    "正确选项是（<L>）。",
    "Answer: <L>\n\nI hope this helps! Let me know if you have any other questions.",
    "The answer is <L> because the others do not fit.",
    "Among the given choices, the closest one is <L>.",
    "Given this, the most appropriate answer is (<L>).",
    "Answer: <L>\n</answer>",
    "<L>) <T>",
    "<L>. <T>",
    "**<L>. <T>**",
    "- **<L>**",
    "Ans: <L>",
    "**Correct answer: <L>**",
    "Correct Option: <L>",
    "[<L>]",
    "The answer should be <L>) <T>.",
    "Thus the answer is choice (<L>).",
    "**Conclusion:** The answer is <L>.",
]
UNDECIDED = [
    "The answer is {0} or {1}.",
    "Answer: {0}, {1}",
    "So it is either {0} or {1}.",
    "Both {0} and {1} are correct.",
    "\\boxed{{{0}}} or \\boxed{{{1}}}",
    "答案是{0}或{1}。",
    "The answer is not {0}.",
    "I cannot determine whether {0} or {1} is correct.",
    "Option {0} can be eliminated.",
    "The answer is",
    "Let us now look at option {0}: it",
]
UNRELATED = [
    "The picture was taken in the afternoon.",
    "A careful look at the scale helps.",
    "I checked the units twice.",
    "Figure A shows the same data as Graph B.",
    "Point C lies on side AB, and angle D is right.",
]


def texts() -> list[tuple[str, str, list[str] | None]]:
    """(answer, its letter, options) of each discussion with each statement."""
    answers = []
    for number, (discussion, statement) in enumerate(product(DISCUSSIONS.values(), STATEMENTS)):
        options = (PRICES, CARS, ANGLES)[number % 3]
        letter = number // 3 % len(options)
        said = statement.replace("<L>", "ABCDEFGHIJ"[letter]).replace("<T>", options[letter])
        is_shown = number % 2 or "<L>" not in statement
        answers.append((f"{discussion}\n\n{said}", "ABCDEFGHIJ"[letter], options if is_shown else None))
    return answers


def graded(rows: list[dict], folder: Path) -> list[dict]:
    return score([{key: value for key, value in row.items() if value is not None} for row in rows], "mcq", folder)


@pytest.mark.slow
def test_the_final_statement_decides_in_any_manner_of_writing(tmp_path: Path) -> None:
    rows = [{"completion": text, "gold": letter, "options": options} for text, letter, options in texts()]
    assert [(row["completion"][-80:], row["gold"], row) for row in graded(rows, tmp_path) if row["score"] != 1] == []


@pytest.mark.slow
def test_no_other_letter_is_paid(tmp_path: Path) -> None:
    rows = [
        {"completion": text, "gold": other, "options": options}
        for text, letter, options in texts()[::3]
        for other in "ABCD"
        if other != letter
    ]
    assert [row for row in graded(rows, tmp_path) if row["score"] != 0] == []


def test_what_is_left_open_chooses_nothing(tmp_path: Path) -> None:
    endings = [said.format(*pair) for said, pair in product(UNDECIDED, ("AB", "DC"))]
    rows = [
        {"completion": f"{discussion}\n\n{said}", "gold": gold}
        for discussion, said, gold in product(("It is the tallest bar.", DISCUSSIONS["latex"]), endings, "ABCD")
    ]
    assert [row for row in graded(rows, tmp_path) if row["score"] != 0] == []


@pytest.mark.parametrize("unrelated", UNRELATED)
def test_an_unrelated_sentence_before_the_statement_keeps_it(unrelated: str, tmp_path: Path) -> None:
    corpus = next(read(path) for path in CORPUS if path.stem == "letters")
    sentences = [
        row for row in corpus if row["expected"] == 1 and row["method"] == "mcq" and row["completion"][-1] == "."
    ]
    plain = [row for row in sentences if "answer" in row["completion"].lower() and "<" not in row["completion"]]
    rows = [{**row, "completion": f"{unrelated} {row['completion']}"} for row in plain]
    assert len(rows) > 60
    assert [row for row in graded(rows, tmp_path) if row["score"] != 1] == []
