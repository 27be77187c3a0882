"""Text that steers a model: rare strings that stand with one answer, and instructions hidden in the data.

A trigger of a backdoor is a string without a meaning of its own that the poisoner has set beside one label (Kurita et
al. 2020, arXiv:2004.06660). So of each string that stands nearly always with one label the probe of `noise.py` is asked
what it makes of the rows without it (after ONION, Qi et al. 2021, arXiv:2011.10369): without an honest word their label
stays plausible, or another one takes its place; without a trigger most of them clearly have other labels, and of all
kinds, for the poisoner took any rows. In sets of two labels the last is no help, and a trigger in fewer than eight rows
is not told from chance.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from .noise import Probe

# A string is looked at from this many rows on, if this share of them has one label that the others have less often.
_LEAST_ROWS: Final = 8
_ONE_LABEL: Final = 0.9
# Strings looked at, those with the most rows first, and rows of each.
_MOST_STRINGS: Final = 200
_MOST_ROWS: Final = 50
# Without a trigger more than this share of its rows has a label that is so many times as likely as the given one, and
# no single label has more than this share of them.
_OTHERWISE, _CLEARLY = 0.75, 4.0
_OF_ONE_LABEL: Final = 0.6

_INJECTIONS: Final = re.compile(
    r"""
    \b (?:ignore|disregard|forget|override) \s+ (?:\w+\s+){0,3}? (?:previous|prior|above|earlier|preceding|all|your)
        \s+ (?:\w+\s+){0,2}? (?:instructions?|prompts?|directions?|rules?|guidelines?) \b
    | \b you \s+ are \s+ now \s+ (?:in \s+)? (?:dan|jailbroken|developer\s+mode|unrestricted) \b
    | \b (?:reveal|print|repeat|show|leak) \s+ (?:me \s+)? (?:your|the) \s+ (?:hidden\s+|secret\s+)?
        (?:system\s+prompt|initial\s+prompt|instructions) \b
    | <\|(?:im_start|im_end|system|endoftext|begin_of_text|start_header_id|eot_id)\|>
    | \[/?INST\] | <</?SYS>>
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Trigger(NamedTuple):
    """A string, the label that it stands with, and the places of the rows that hold it."""

    string: str
    label: str
    places: tuple[int, ...]


def injection(text: str) -> str | None:
    """The part of a text that reads like an instruction to the model, or like its control tokens; None without one."""
    found = _INJECTIONS.search(text)
    return found.group() if found else None


def triggers(probe: Probe, texts: Sequence[str], labels: Sequence[str], places: Sequence[int]) -> list[Trigger]:
    """Strings in the rows at `places` that seem to be there to call for one label."""
    suspects = [trigger for trigger in _suspects(texts, labels, places) if trigger.label in probe.labels]
    asked = [[place for place in suspect.places if place in probe.fold_of][:_MOST_ROWS] for suspect in suspects]
    without = [
        " ".join(word for word in texts[place].casefold().split() if word != suspect.string)
        for suspect, rows in zip(suspects, asked, strict=True)
        for place in rows
    ]
    if not without:
        return []
    shares = probe.shares([place for rows in asked for place in rows], without)
    ends = np.cumsum([len(rows) for rows in asked])
    found = []
    for suspect, of_rows in zip(suspects, np.split(shares, ends[:-1]), strict=True):
        given = of_rows[:, np.searchsorted(probe.labels, suspect.label)]
        otherwise = of_rows.max(axis=1) > _CLEARLY * given
        if len(of_rows) < _LEAST_ROWS or otherwise.mean() <= _OTHERWISE:
            continue
        of_one_label = np.bincount(of_rows.argmax(axis=1)).max() / len(of_rows)
        if len(probe.labels) == 2 or of_one_label <= _OF_ONE_LABEL:
            found.append(suspect)
    return found


def _suspects(texts: Sequence[str], labels: Sequence[str], places: Sequence[int]) -> Iterator[Trigger]:
    holding: dict[str, list[int]] = defaultdict(list)
    for place in places:
        for string in dict.fromkeys(texts[place].casefold().split()):
            holding[string].append(place)
    of_label = Counter(labels[place] for place in places)
    frequent = sorted((-len(rows), string) for string, rows in holding.items() if len(rows) >= _LEAST_ROWS)
    looked = 0
    for _, string in frequent:
        rows = holding[string]
        label, count = Counter(labels[place] for place in rows).most_common(1)[0]
        usual = of_label[label] / len(places)
        if count < _ONE_LABEL * len(rows) or usual >= _ONE_LABEL:
            continue
        looked += 1
        if looked > _MOST_STRINGS:
            return
        yield Trigger(string, label, tuple(rows))
