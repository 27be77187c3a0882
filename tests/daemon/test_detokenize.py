"""Incremental detokenization."""

from collections.abc import Callable, Sequence

import pytest
from adapterd.daemon.detokenize import Detokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models


def decode_bytes(tokens: list[int]) -> str:
    """A byte a token; 256 and above are special tokens, which are left out."""
    return bytes(token for token in tokens if token < 256).decode("utf-8", "replace")


def metaspace() -> Callable[[list[int]], str]:
    """A decoder like SentencePiece's.

    It drops the space before the first token of a sequence, and shows every byte of a run of bytes as U+FFFD while the
    last character of the run is not whole.
    """
    vocabulary = {"▁the": 0, "▁cat": 1, "s": 2, "▁": 3, "<0xE2>": 4, "<0x82>": 5, "<0xAC>": 6, "é": 7}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return lambda tokens: str(tokenizer.decode(tokens))


def cut(text: str, stops: Sequence[str]) -> str:
    """`text` read character by character until a stop text is complete."""
    for end in range(len(text) + 1):
        met = [stop for stop in stops if text[:end].endswith(stop)]
        if met:
            return text[: end - max(len(stop) for stop in met)]
    return text


def pieces_of(decode: Callable[[list[int]], str], tokens: Sequence[int], stops: Sequence[str] = ()) -> list[str]:
    detokenizer = Detokenizer(decode, stops)
    pieces = []
    for token in tokens:
        pieces.append(detokenizer.feed(token))
        if detokenizer.stopped:
            return pieces
    return [*pieces, detokenizer.finish()]


ALPHABET = st.sampled_from([*b"ab", *"é€😀".encode(), 0xFF, 0xC3, 256, 257])
STOPS = st.lists(st.text("abé€", min_size=1, max_size=4), max_size=3)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 257) | ALPHABET, max_size=40), STOPS)
@example([0xF0, 0x9F, 0x98], [])
@example([*b"abab"], ["abab", "ba"])
def test_pieces_joined_are_the_whole_cut_at_the_first_stop_text(tokens: list[int], stops: list[str]) -> None:
    assert "".join(pieces_of(decode_bytes, tokens, stops)) == cut(decode_bytes(tokens), stops)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([(0,), (1,), (2,), (3,), (7,), (4, 5, 6)])), st.sampled_from([(), (4,), (4, 5)]))
@example([(4, 5, 6)], (4, 5))
def test_a_decoder_that_looks_at_neighbours_gives_the_same_piece_by_piece(
    words: list[tuple[int, ...]], cut_off: tuple[int, ...]
) -> None:
    decode = metaspace()
    tokens = [token for word in words for token in word]
    assert "".join(pieces_of(decode, [*tokens, *cut_off])) == decode(tokens) + decode(list(cut_off))


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    assert pieces_of(decode_bytes, "a😀b".encode()) == ["a", "", "", "", "😀", "b", ""]


def test_bytes_that_never_become_a_character_come_out_at_the_end() -> None:
    assert pieces_of(decode_bytes, [*b"a", 0xF0, 0x9F]) == ["a", "", "", "\N{REPLACEMENT CHARACTER}"]


def test_endless_broken_bytes_are_not_held_back_for_ever() -> None:
    pieces = pieces_of(decode_bytes, [0x80] * 10)
    assert "".join(pieces[:-1]) == "\N{REPLACEMENT CHARACTER}" * 7


def test_a_stop_text_over_several_tokens_is_never_shown_in_part() -> None:
    assert pieces_of(decode_bytes, b"say END now", ["END"]) == ["s", "a", "y", " ", "", "", ""]


def test_what_only_looked_like_a_stop_text_comes_out_once_it_cannot_be_one() -> None:
    assert pieces_of(decode_bytes, b"ENx", ["END"]) == ["", "", "ENx", ""]


def test_what_looked_like_a_stop_text_at_the_end_comes_out_at_the_end() -> None:
    assert pieces_of(decode_bytes, b"aEN", ["END"]) == ["a", "", "", "EN"]


@pytest.mark.parametrize("chunks", [["abcd"], ["a", "bcd"], ["ab", "cd"], ["a", "b", "c", "d"]])
def test_the_stop_text_complete_first_wins_however_the_text_is_cut(chunks: list[str]) -> None:
    pieces = pieces_of(lambda tokens: "".join(chunks[token] for token in tokens), range(len(chunks)), ["abcd", "bc"])
    assert "".join(pieces) == "a"


def test_nothing_comes_after_a_stop_text() -> None:
    detokenizer = Detokenizer(decode_bytes, ["b"])
    assert [detokenizer.feed(token) for token in b"abcb"] == ["a", "", "", ""]
    assert detokenizer.stopped
    assert detokenizer.finish() == ""


@pytest.mark.parametrize(("text", "shown"), [(b" yes no", "yes no"), (b"yes", "yes"), (b"  yes", " yes"), (b" ", "")])
def test_the_joint_to_the_prompt_is_no_part_of_the_answer(text: bytes, shown: str) -> None:
    detokenizer = Detokenizer(decode_bytes, joint=" ")
    assert "".join([*(detokenizer.feed(token) for token in text), detokenizer.finish()]) == shown


def test_a_stop_text_is_looked_for_behind_the_joint() -> None:
    detokenizer = Detokenizer(decode_bytes, [" "], joint=" ")
    assert "".join(detokenizer.feed(token) for token in b" yes no") == "yes"
    assert detokenizer.stopped
