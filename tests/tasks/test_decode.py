"""Message decoding: the picture is the code, no held-out word is ever trained on, and only decoding pays."""

import json
from functools import partial

import numpy as np
import pytest
from helpers.cpu_time import cpu_seconds
from helpers.repository import make_dataset
from PIL import Image

from open_r1.data.jsonl_dataset import load_records
from open_r1.data.record import Record
from open_r1.errors import DataError
from open_r1.rewards.gold import gold_completion, gold_score
from open_r1.rewards.registry import METHODS, REWARDS
from open_r1.tasks import decoder
from open_r1.tasks.decode_sequences import CodedSequences
from open_r1.tasks.decode_words import CodedWords
from open_r1.tasks.decoder import CodedMessages, draw_decoder, encode_message, random_code, words_from_file
from open_r1.tasks.registry import TASKS

SMALL = CodedWords(alphabet=6, size=84, dark=True)
ALL = [CodedWords(), SMALL, CodedSequences(), CodedSequences(alphabet=8, max_words=2)]
NAMES = TASKS["decode_words"].rewards
CODED = {"coded": "xyz_qrs", "message": "cat_dog"}


def record(**extra: object) -> Record:
    return Record("7", (), "", (), "cat_dog", {**CODED, **extra}, "a.jsonl:7", "decode")


def completion(chars: str, answer: str) -> str:
    return f"<think>The letters are <chars> {chars} </chars></think>\n<answer>{answer}</answer>"


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(decoder, "draw_decoder", lambda *_: Image.new("RGB", (1, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("generator", ALL)
def test_no_word_is_in_two_splits(no_pictures, generator: CodedMessages):
    def words(split: str, seed: int) -> set[str]:
        questions = [generator.example(seed, split, i).questions[0] for i in range(5000)]
        return {word for one in questions for word in one.answer.split("_")}

    train, heldout = words("train", 0), words("heldout", 1)
    assert train and heldout and not train & heldout
    low, high = generator.lengths
    assert {low, high} <= {len(word) for word in train} and all(low <= len(word) <= high for word in train | heldout)


@pytest.mark.parametrize("generator", ALL)
def test_the_code_turns_the_message_into_what_is_asked(no_pictures, generator: CodedMessages):
    for index in range(300):
        (question,) = generator.example(0, "train", index).questions
        coded, message = question.extra["coded"], question.extra["message"]
        assert question.question.endswith(f": {' '.join(coded)}") and question.answer == message != coded
        pairs = set(zip(message, coded, strict=True))
        assert len(pairs) == len({plain for plain, _ in pairs}) == len({code for _, code in pairs})
        assert all((plain == "_") == (code == "_") for plain, code in pairs)
        assert message == (message.upper() if isinstance(generator, CodedWords) else message.lower())


def test_sequences_have_one_to_three_words(no_pictures):
    counts = [CodedSequences().example(0, "train", i).questions[0].answer.count("_") + 1 for i in range(300)]
    assert set(counts) == {1, 2, 3}


def cells(picture: Image.Image) -> list[tuple[bytes, bytes]]:
    """(left half, right half) of each 28x28 cell of an 84x56 picture."""
    corners = [(x, y) for y in (0, 28) for x in (0, 28, 56)]
    return [
        (picture.crop((x, y, x + 14, y + 28)).tobytes(), picture.crop((x + 14, y, x + 28, y + 28)).tobytes())
        for x, y in corners
    ]


def test_the_picture_shows_each_pair_once_in_random_order():
    code = dict(zip("ABCDEF", "BCDEFA", strict=True))  # plain -> coded; the picture shows coded, then plain
    one, two = (cells(draw_decoder(code, np.random.default_rng(seed), 84, True)) for seed in (0, 1))
    assert len(set(one)) == 6 and set(one) == set(two) and one != two
    inverse = {coded: plain for plain, coded in code.items()}
    swapped = cells(draw_decoder(inverse, np.random.default_rng(2), 84, True))
    assert {(right, left) for left, right in swapped} == set(one)
    same = cells(draw_decoder({letter: letter for letter in code}, np.random.default_rng(3), 84, True))
    assert {left for left, _ in one} == {left for left, _ in same} and all(left == right for left, right in same)
    # one exchange changes the two pairs that it touches and no other
    other = cells(draw_decoder({**code, "A": "C", "B": "B"}, np.random.default_rng(0), 84, True))
    assert sum(a != b for a, b in zip(one, other, strict=True)) == 2


@pytest.mark.parametrize(
    ("generator", "wh", "ground"),
    [(CodedWords(), (300, 300), 255), (CodedSequences(), (400, 400), 255), (SMALL, (84, 56), 0)],
)
def test_pictures_have_their_size_and_ground(generator: CodedMessages, wh: tuple[int, int], ground: int):
    (picture,) = generator.example(0, "train", 0).images
    pixels = np.asarray(picture)
    assert picture.size == wh and picture.mode == "RGB"
    assert (pixels == ground).mean() > 0.6 and (pixels == 255 - ground).any()


def test_26_pairs_fill_a_5x5_grid_and_one_cell_below():
    code = random_code(np.random.default_rng(0), decoder.ascii_lowercase, "cat")
    ink = np.asarray(draw_decoder(code, np.random.default_rng(0), 300, False))[..., 0] < 128
    used = ink.reshape(6, 50, 5, 60).any(axis=(1, 3))  # cells of 60x50 pixels
    assert used[:5].all() and used[5].tolist() == [False, False, True, False, False]


def test_a_row_depends_on_seed_split_and_index_alone():
    first, again, other = (SMALL.example(seed, "train", 5) for seed in (0, 0, 1))
    assert first.questions == again.questions != other.questions
    assert first.images[0].tobytes() == again.images[0].tobytes() != other.images[0].tobytes()


def test_words_come_from_a_file(tmp_path, no_pictures):
    path = tmp_path / "words.txt"
    path.write_text("cat\nSun\nice\ndog\nice-cream\nnaïve\nto\n")
    generator = CodedSequences(words=str(path))
    words = {w for i in range(200) for w in generator.example(0, "train", i).questions[0].answer.split("_")}
    assert words == {"cat", "dog"} and words_from_file(str(path), "abcdefghijklmnopqrstuvwxyz", (3, 8), "heldout") == (
        "ice",
        "sun",
    )
    with pytest.raises(ValueError, match=r"words\.txt: got no word for the split 'train', expected words of 3 to 3"):
        CodedWords(words=str(path), alphabet=6).example(0, "train", 0)


def test_a_real_word_list(shared, no_pictures):
    generator = CodedWords(words=str(shared / "words" / "american-english.txt"))
    words = {
        split: {generator.example(0, split, i).questions[0].answer for i in range(500)} for split in generator.splits
    }
    assert len(words["train"]) > 400 and not words["train"] & words["heldout"]


@pytest.mark.parametrize("options", [{"alphabet": 27}, {"min_letters": 4, "max_letters": 3}, {"max_words": 0}])
def test_impossible_options_are_refused(options: dict):
    with pytest.raises(ValueError, match="expected 2 <= alphabet <= 26, 1 <= min_letters <= max_letters"):
        CodedWords(**options)


def test_an_alphabet_without_held_out_words_is_refused(monkeypatch):
    monkeypatch.setattr(decoder, "HELD_OUT_WORDS_EVERY", 2**64)  # no word's hash is a multiple of it
    with pytest.raises(ValueError, match="got an alphabet of 2 and words of 1 to 1 letters, expected words for the"):
        CodedWords(alphabet=2, min_letters=1, max_letters=1).example(0, "heldout", 0)


@pytest.mark.parametrize(
    ("chars", "answer", "expected"),
    [  # chars, answer, format, partial
        ("c a t _ d o g", "cat_dog", (1, 1, 1, 1)),
        ("C A T _ D O G", "Cat dog", (1, 1, 1, 1)),
        ("cat_dog", "cat_dog", (1, 1, 1, 1)),
        ("c a t _ d o g", "cat_dig", (1, 0, 1, 6 / 7)),  # one of seven letters wrong
        ("c a t _ d o g", "xyz_qrs", (1, 0, 1, 0)),  # the code itself
        ("c a t _ d i g", "cat_dog", (6 / 7, 0, 1, 0)),  # a right answer after wrong letters is not decoding
        ("x y z _ q r s", "xyz_qrs", (0, 0, 1, 0)),
        ("x y z _ q r g", "cat_dog", (0, 0, 1, 0)),  # 6/7 of the code, 2/7 of the message
        ("", "cat_dog", (0, 0, 1, 0)),
    ],
)
def test_the_four_rewards(chars: str, answer: str, expected: tuple[float, ...]):
    scores = [REWARDS[name](completion(chars, answer), record()) for name in NAMES]
    assert scores == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "<think><chars>c a t _ d o g</chars><chars>c a t _ d o g</chars></think><answer>cat_dog</answer>",
        "<think><chars><chars>c a t _ d o g</chars></chars></think><answer>cat_dog</answer>",
        "<think><chars>c a t _ d o g</think><answer>cat_dog</answer>",
        "<think></chars>c a t _ d o g<chars></think><answer>cat_dog</answer>",
        "<think></think><answer><chars>c a t _ d o g</chars></answer>",
        "<chars>c a t _ d o g</chars><think></think><answer>cat_dog</answer>",
        "<think>c a t _ d o g</think><answer>cat_dog</answer>",
    ],
)
def test_repeated_nested_unclosed_or_misplaced_chars_earn_nothing(text: str):
    assert [REWARDS[name](text, record()) for name in NAMES if name != "format"] == [0, 0, 0]


def test_direct_answers_are_not_asked_to_spell():
    scores = {name: REWARDS[name]("<answer>cat_dog</answer>", record(prompt_mode="direct")) for name in NAMES}
    assert scores == {"decode_chars": None, "decode_answer": 1, "format": 1, "decode_partial": 1}
    wrong = "<answer>xyz_qrs</answer>"
    assert REWARDS["decode_partial"](wrong, record(prompt_mode="direct")) == 0


@pytest.mark.parametrize("name", ["decode_words", "decode_sequences"])
def test_gold_earns_the_maximum_of_every_reward(tmp_path, name: str):
    task, options = TASKS[name], ("--alphabet", 6, "--size", 84, "--dark", "--rows", 40, "--heldout_rows", 20)
    make_dataset(name, tmp_path, *options)
    files = [tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"]
    rows = load_records(files, tmp_path, reward_methods=task.method)
    assert len(rows) == 60 and set(json.loads(files[0].read_text().splitlines()[0])) >= {"coded", "message"}
    for row in rows:
        gold = gold_completion(row)
        assert [REWARDS[reward](gold, row) for reward in task.rewards] == [1, 1, 1, 1]
        assert gold_score(row) == (1, 1) and METHODS[task.method].score(row.extra["coded"], row) == 0
    assert task.is_right(1.0) and not task.is_right(0.9)


@pytest.mark.parametrize(
    "garbage", ["", "banana", "<chars>" * 500, "<think><chars> </chars></think><answer></answer>"]
)
def test_garbage_earns_nothing(garbage: str):
    assert [REWARDS[name](garbage, record()) for name in NAMES] == [0, 0, 0, 0]


@pytest.mark.parametrize("piece", ["<chars>", "c ", "<think><chars>", "a</chars>", "\u202e", "<think><chars>a "])
def test_hostile_text_takes_little_time(piece: str):
    text = piece * (100_000 // len(piece)) + "</chars></think><answer>" + piece * 1000 + "</answer>"
    for name in NAMES:
        assert REWARDS[name](text, record()) == 0
        assert cpu_seconds(partial(REWARDS[name], text, record()), 0.05) < 0.05


def test_malformed_rows_name_row_and_field():
    with pytest.raises(DataError, match=r"a\.jsonl:7: coded: got None, expected the coded message, 7 characters"):
        REWARDS["decode_chars"](completion("c a t", "cat"), Record("7", (), "", (), "cat_dog", {}, "a.jsonl:7"))
    with pytest.raises(DataError, match=r"a\.jsonl:7: coded: got 'xyz'"):
        REWARDS["decode_chars"](completion("c a t", "cat"), record(coded="xyz"))
    with pytest.raises(DataError, match=r"a\.jsonl:7: solution: got '12', expected a message of letters"):
        METHODS["decode"].score("12", Record("7", (), "", (), "12", {}, "a.jsonl:7"))


def test_encoding_leaves_the_space_alone():
    assert encode_message("cat_dog", dict(zip("catdog", "xyzqrs", strict=True))) == "xyz_qrs"
