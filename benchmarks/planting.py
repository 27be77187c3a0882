"""Faults planted in a clean data set, with the truth of what was planted where."""

import string
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from adapterd.continual.audit.findings import Concern

Row = dict[str, str]

# Share of the rows that each fault is planted in.
SHARE = 0.05


@dataclass
class Planted:
    """Rows in the order of the file, and the places of the faults, which count from 1 as the file's lines do.

    `clean`: the first of the rows as they were. `judged_by`: rows of an earlier drop. `sources`: of rows that were
    added, the place of the row that they were made of, if it is one of the drop's. `relabelled`: rows whose label is
    not the one that they had, whichever fault it was changed for.
    """

    rows: list[Row]
    clean: list[Row]
    judged_by: list[Row]
    places: dict[Concern, set[int]]
    sources: dict[int, int]
    relabelled: set[int]


@dataclass
class _Mark:
    """A row, and what was planted in it; `source`: the place of the row that it was made of."""

    row: Row
    fault: Concern | None = None
    relabelled: bool = False
    source: int = 0


def plant(rows: Sequence[Row], seed: int) -> Planted:
    """Plant every fault, each in rows of its own; a fifth of the rows is what an earlier drop was judged by."""
    random = Random(seed)
    shuffled = list(rows)
    random.shuffle(shuffled)
    judged_by, clean = shuffled[: len(shuffled) // 5], shuffled[len(shuffled) // 5 :]
    many = round(SHARE * len(clean))
    sources = iter(range(len(clean)))
    marks = [_Mark(dict(row)) for row in clean]
    added: list[_Mark] = []
    asked, answer = _columns(clean[0])
    answers = sorted({row[answer] for row in clean})

    for _ in range(many):
        place = next(sources)
        added.append(_Mark(dict(clean[place]), Concern.DUPLICATE, source=place + 1))
        near = clean[place := next(sources)]
        near = {**near, asked: perturbed(near[asked], random)}
        added.append(_Mark(near, Concern.NEAR_DUPLICATE, source=place + 1))
        row = clean[place := next(sources)]
        wrong = random.choice([other for other in answers if other != row[answer]])
        text = perturbed(row[asked], random) if random.random() < 0.5 else row[asked]
        row = {**row, asked: text, answer: wrong}
        added.append(_Mark(row, Concern.CONTRADICTION, relabelled=True, source=place + 1))
        for concern, made in ((Concern.PERSONAL, email), (Concern.PERSONAL, card), (Concern.SECRET, secret)):
            mark = marks[next(sources)]
            column = asked if answer == "label" or random.random() < 0.5 else answer
            mark.row[column] = inserted(mark.row[column], made(random), random)
            mark.fault = concern
        if answer == "label":
            mark = marks[next(sources)]
            mark.row[answer] = random.choice([other for other in answers if other != mark.row[answer]])
            mark.fault, mark.relabelled = Concern.LABEL_NOISE, True
    for row in random.sample(judged_by, min(many, len(judged_by))):
        text = perturbed(row[asked], random) if random.random() < 0.5 else row[asked]
        added.append(_Mark({**row, asked: text}, Concern.LEAK))

    random.shuffle(added)
    numbered = list(enumerate([*marks, *added], start=1))
    places: dict[Concern, set[int]] = defaultdict(set)
    for place, mark in numbered:
        if mark.fault:
            places[mark.fault].add(place)
    return Planted(
        [mark.row for _, mark in numbered],
        clean,
        judged_by,
        dict(places),
        {place: mark.source for place, mark in numbered if mark.source},
        {place for place, mark in numbered if mark.relabelled},
    )


def perturbed(text: str, random: Random) -> str:
    """The text as another hand would have written it: letter case, punctuation, a slip of the pen, a word more."""
    while (written := _written_again(text, random)) == text:
        pass
    return written


def _written_again(text: str, random: Random) -> str:
    words = text.split()
    change = random.randrange(5)
    long = [place for place, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if change == 0 or len(text) < 30:
        return text.upper() if text.lower() == text else text.lower()
    if change == 1:
        return text.rstrip(" ?!.") + random.choice([" ??", "!", " ...", " "])
    if change == 2 and long:  # two letters change places
        place = random.choice(long)
        word = words[place]
        at = random.randrange(1, len(word) - 2)
        words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        return " ".join(words)
    if change == 3 and long:  # a letter is missing
        place = random.choice(long)
        at = random.randrange(1, len(words[place]) - 1)
        words[place] = words[place][:at] + words[place][at + 1 :]
        return " ".join(words)
    return random.choice(["so ", "ok, ", "hi, "]) + text


def inserted(text: str, what: str, random: Random) -> str:
    """`what` between two words of the text."""
    words = text.split(" ")
    at = random.randrange(len(words) + 1)
    return " ".join([*words[:at], what, *words[at:]])


def email(random: Random) -> str:
    """An address."""
    name = random.choice(["anna.k", "j_ortiz", "lee+news", "m.dubois", "sam99", "r-patel"])
    return f"{name}{random.randrange(999)}@{_word(random)}.{random.choice(['com', 'co.uk', 'de', 'example', 'org'])}"


def card(random: Random) -> str:
    """A card number with a right check digit, in one of the ways that people write it."""
    prefix, length = random.choice([("4", 16), ("51", 16), ("37", 15), ("6011", 16)])
    digits = prefix + "".join(random.choices(string.digits, k=length - len(prefix) - 1))
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    digits += str(-total % 10)
    between = random.choice(["", " ", "-"])
    return between.join(digits[start : start + 4] for start in range(0, length, 4))


def secret(random: Random) -> str:
    """A key or a token, as their issuers form them."""
    letters = string.ascii_letters + string.digits
    forms: list[Callable[[], str]] = [
        lambda: "AKIA" + "".join(random.choices(string.ascii_uppercase + string.digits, k=16)),
        lambda: "ghp_" + "".join(random.choices(letters, k=36)),
        lambda: "xoxb-" + "".join(random.choices(string.digits, k=12)) + "-" + "".join(random.choices(letters, k=24)),
        lambda: "AIza" + "".join(random.choices(letters + "_-", k=34)) + random.choice(letters),
        lambda: "sk-proj-" + "".join(random.choices(letters, k=40)) + "1a",
        lambda: "hf_" + "".join(random.choices(letters, k=34)),
        lambda: "api_key=" + "".join(random.choices(letters, k=30)) + "x7",
        lambda: f"postgres://app:{_word(random)}{random.randrange(999)}@db.internal/main",
    ]
    return random.choice(forms)()


def _word(random: Random) -> str:
    return "".join(random.choices(string.ascii_lowercase, k=random.randrange(5, 10)))


def _columns(row: Row) -> tuple[str, str]:
    """The columns of what is asked and of the answer."""
    if "label" in row:
        return "text", "label"
    return ("instruction" if "instruction" in row else "prompt"), ("output" if "output" in row else "completion")
