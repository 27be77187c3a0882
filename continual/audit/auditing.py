"""The audit of a drop: everything that is looked for, in one pass after another."""

import gc
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ..examples import Kind, Numbered, Repeat
from .findings import Concern, Finding, Report
from .noise import doubts, train_probe
from .repeats import Known, Repeats, find_repeats
from .sensitive import concern_of, sensitive
from .triggers import injection, triggers
from .wording import Tokens, find_languages, find_wording, texts, whole

# A label that has more than this share of a drop's rows leaves little to learn of the others.
_MOST_OF_ALL: Final = 0.9


@dataclass(frozen=True, slots=True)
class Drop:
    """What is audited: a drop's good rows, and what the parser left out or put in another's place.

    `repeated`: lines equal to earlier ones. `redacted`: what was taken out of a row, by its line. `history`: the rows
    of the drops behind the champion, oldest first, and the golden set's. `labels`: what the task knows.
    """

    rows: Sequence[Numbered]
    repeated: Sequence[Repeat] = ()
    redacted: Mapping[int, Sequence[str]] = field(default_factory=dict)
    history: Sequence[Known] = ()
    labels: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Audited:
    """The report, and what becomes of the rows."""

    report: Report
    repeats: Repeats


@contextmanager
def _no_collector() -> Iterator[None]:
    """Looking for cycles takes the longer the more rows there are, and these and what is found of them hold none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_no_collector()
def audit(
    drop: Drop,
    *,
    tokens: Tokens | None = None,
    max_length: int = 512,
    region: str = "",
    presidio: str = "",
    say: Callable[[str, float], None] = lambda _phase, _share: None,
) -> Audited:
    """Look at every row. `say` is told which part begins, and the share of the whole that is done.

    `tokens`: the number of tokens of a text, for `max_length`. `region`, `presidio`: see `sensitive`.
    """
    say("repeats", 0.0)
    repeats = find_repeats(drop.rows, drop.repeated, drop.history)
    gc.collect()  # the index of what resembles what is large, and goes in circles
    findings = list(repeats.findings)
    say("personal data and secrets", 0.5)
    findings += _find_sensitive(drop, region, presidio)
    say("wording", 0.75)
    findings += find_wording(drop.rows, tokens, max_length)
    findings += find_languages(drop.rows)
    findings += _find_injections(drop.rows)
    say("labels", 0.85)
    findings += _find_labels(drop.rows, drop.labels)
    findings += _find_noise(drop)
    say("done", 1.0)
    effective = len(repeats.fresh) + len(repeats.learnable)
    return Audited(Report(len(drop.rows) + len(drop.repeated), effective, tuple(findings)), repeats)


def _find_sensitive(drop: Drop, region: str, presidio: str) -> Iterator[Finding]:
    for line, example in drop.rows:
        found: dict[str, Concern] = {}
        for text in texts(example):
            found.update((span.what, span.concern) for span in sensitive(text, region, presidio))
        for what, concern in found.items():
            yield Finding(concern, line, f"holds {_article(what)}")
        for what in drop.redacted.get(line, ()):
            yield Finding(concern_of(what), line, f"held {_article(what)}, which was redacted")


def _find_injections(rows: Iterable[Numbered]) -> Iterator[Finding]:
    for line, example in rows:
        if (part := injection(whole(example))) is not None:
            said = " ".join(part.split())[:60]
            yield Finding(Concern.INJECTION, line, f'reads like an instruction to the model ("{said}")')


def _find_labels(rows: Sequence[Numbered], known: Collection[str]) -> Iterator[Finding]:
    counts = Counter(example.completion for _, example in rows if example.kind is Kind.LABEL)
    total = sum(counts.values())
    for label, count in counts.most_common():
        if count > _MOST_OF_ALL * total and total > 1:
            yield Finding(Concern.BALANCE, 0, f'"{label}" is the label of {count / total:.0%} of the rows')
        if count == 1 and total > 1:
            yield Finding(Concern.BALANCE, 0, f'"{label}" has one row')
        if known and label not in known:
            yield Finding(Concern.NEW_LABEL, 0, f'"{label}" is new, {count} rows')
    for label in sorted(set(known) - set(counts)) if counts else ():
        yield Finding(Concern.VANISHED_LABEL, 0, f'"{label}" is known to the task and has no row here')


def _find_noise(drop: Drop) -> Iterator[Finding]:
    """Implausible labels and triggers, by a probe that learns from this drop's rows and earlier ones."""
    here = [(line, example) for line, example in drop.rows if example.kind is Kind.LABEL]
    earlier = [known.example for known in drop.history if known.example.kind is Kind.LABEL and not known.side.judges]
    asked = [example.prompt for _, example in here] + [example.prompt for example in earlier]
    labels = [example.completion for _, example in here] + [example.completion for example in earlier]
    probe = train_probe(asked, labels)
    if probe is None:
        return
    places = range(len(here))
    for doubt in doubts(probe, labels, places):
        times = f"{min(doubt.times, 9999):,.0f} times"
        said = f'"{doubt.likelier}" seems {times} as likely as its label "{labels[doubt.place]}"'
        yield Finding(Concern.LABEL_NOISE, here[doubt.place][0], said)
    for trigger in triggers(probe, asked, labels, places):
        rows = f"{len(trigger.places)} rows"
        said = f'"{trigger.string[:40]}" seems to be there to call for "{trigger.label}" ({rows})'
        for place in trigger.places:
            yield Finding(Concern.TRIGGER, here[place][0], said)


def _article(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
