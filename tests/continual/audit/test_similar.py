"""Which questions count as one."""

from random import Random

from adapterd.continual.audit.similar import Index, Question, boilerplate, near, plain, same_meaning
from adapterd.continual.examples import parse_row
from hypothesis import given
from hypothesis import strategies as st


def question(text: str) -> Question:
    return Question(plain(text), "")


def test_case_punctuation_and_spacing_make_no_difference() -> None:
    assert question("Where is  my CARD?!") == question("where is my card")
    assert question("?!") != question("...")


def test_a_chat_asks_its_last_turn_and_an_instruction_its_prompt() -> None:
    turns = [("user", "Hello"), ("assistant", "Yes?"), ("user", "Where is it?"), ("assistant", "There.")]
    chat = parse_row({"messages": [{"role": role, "content": content} for role, content in turns]})
    assert Question.of(chat) == Question("where is it", "hello yes")
    instruction = parse_row({"instruction": "Sum up.", "input": "A text", "output": "One"})
    assert Question.of(instruction) == Question("sum up", "a text")
    assert Question.of(parse_row({"text": "Plain text."})) == Question("plain text", "")


def test_a_slip_of_the_pen_or_a_word_more_leaves_a_question_near() -> None:
    asked = question("Is there a reason my new card has not arrived?")
    assert near(asked, question("is there a raeson my new card has not arrived"))
    assert near(asked, question("Hi, is there a reason my new card has not arrived yet?"))
    assert not near(asked, question("Is there a fee when I top up by card?"))


def test_short_questions_with_different_numbers_are_different() -> None:
    assert not near(question("order 7"), question("order 71"))
    assert not near(question("blue 1001"), question("blue 1000"))


def test_a_word_replaced_by_another_changes_the_meaning_and_another_spelling_does_not() -> None:
    founder = question("in the series a song of ice and fire who is the founder of house massey")
    other = question("in the series a song of ice and fire who is the founder of house bulwer")
    assert near(founder, other)
    assert not same_meaning(founder, other)
    assert same_meaning(question("I do not recognise this payment"), question("I do not recognize this payment"))


def test_the_same_instruction_before_every_prompt_does_not_make_them_one() -> None:
    words = [
        "good",
        "dreadful",
        "pleasant",
        "slow",
        "bright",
        "cheap",
        "loud",
        "tender",
        "salty",
        "kind",
        "odd",
        "grand",
    ]
    prompts = [
        question(f"Say whether the following review is positive or negative: {word} {word}") for word in words * 2
    ]
    index: Index[str] = Index(boilerplate(prompts))
    assert len({index.leader(prompt.asked, prompt)[0] for prompt in prompts}) == len(words)


@given(st.lists(st.text(alphabet="abc ?.", max_size=12), min_size=1, max_size=30), st.integers(0, 9))
def test_equal_questions_are_always_in_one_group(texts: list[str], seed: int) -> None:
    index: Index[int] = Index()
    leaders: dict[Question, int] = {}
    order = [*texts, *texts]
    Random(seed).shuffle(order)
    for place, text in enumerate(order):
        leader, resembling = index.leader(place, question(text))
        assert 0 < resembling <= 1
        assert leaders.setdefault(question(text), leader) == leader
