"""Write training sentences for the skills, from names, nouns and frames that no test item uses.

`opposites`, `colours` and `counting` are knowledge, so their facts are the same in training and test;
only the wording around them differs. For the rest the words that carry the answer differ too. The
lists are long because short ones teach the words and not the rule.
"""

import random
import tomllib
from collections.abc import Callable
from pathlib import Path

Sentence = Callable[[random.Random], str]

WORDS = tomllib.loads(Path(__file__).with_name("skill_words.toml").read_text(encoding="utf-8"))
NAMES, STAGE, NOUNS, AGREEMENT = (WORDS[key] for key in ("names", "stage", "nouns", "agreement"))
PEOPLE = NAMES["she"] + NAMES["he"]
OPPOSITES = tuple(tuple(pair) for pair in WORDS["knowledge"]["opposites"])
SEQUENCES = tuple(tuple(text.split()) for text in WORDS["knowledge"]["sequences"])


def closing_quotes(rng: random.Random) -> str:
    """Speech that is closed, and reported speech that is not speech."""
    clause, speaker, verb = rng.choice(STAGE["clauses"]), rng.choice(STAGE["speakers"]), rng.choice(STAGE["verbs"])
    direct = f'"{clause[0].upper()}{clause[1:]}," {verb} {speaker}.'
    reported = f"{speaker[0].upper()}{speaker[1:]} {verb} that {clause}, and then went on."
    return rng.choice((direct, reported))


def two_names(rng: random.Random) -> str:
    """Two people, one of whom is meant."""
    girl, boy = rng.choice(NAMES["she"]), rng.choice(NAMES["he"])
    first, second = rng.sample((girl, boy), 2)
    place, thing = rng.choice(STAGE["places"]), rng.choice(STAGE["things"])
    name, word, role = rng.choice(((girl, "she", "girl"), (boy, "he", "boy")))
    return rng.choice((
        f"{first} and {second} went to the {place}. The {role} was called {name}.",
        f"{first} met {second} by the {place}. The name of the {role} was {name}.",
        f"{first} and {second} had a {thing}. The {role} wanted it. \"Here it is, {name}!\" they said.",
        f"One was {first} and the other was {second}. The {role} was {name}.",
        f"{first} and {second} came to the {place}. \"I am tired,\" {word} said, and that was {name}.",
        f"{first} lost a {thing} and {second} found it. What was the {role}'s name? It was {name}.",
    ))  # fmt: skip


def pattern(rng: random.Random) -> str:
    """A few words again and again in the same order."""
    words = rng.sample(NOUNS["pattern"], rng.choice((2, 2, 2, 3, 3, 4)))
    between = rng.choice((" ", " ", ", ", " and ", ". "))
    return between.join(words * rng.randint(3, 6)) + "."


def agreement(rng: random.Random) -> str:
    """The verb agrees with the first noun, not with the nearest."""
    index, other = rng.sample(range(len(NOUNS["singular"])), 2)
    many = rng.random() < 0.5
    near = NOUNS["singular" if rng.random() < 0.5 else "plural"][other]
    subject = NOUNS["plural" if many else "singular"][index]
    link = rng.choice(AGREEMENT["links"])
    verb = rng.choice((("was", "were"), ("was", "were"), ("is", "are"), ("has", "have")))[many]
    end = rng.choice(AGREEMENT["ends"])
    end = rng.choice(("grown old", "fallen down", "been lost")) if verb.startswith("ha") else end
    start = rng.choice(("The", "The", "In the morning the", "At last the", "Now the"))
    return f"{start} {subject} {link} the {near} {verb} {end}."


def he_or_she(rng: random.Random) -> str:
    """A pronoun after a name or a role."""
    she = rng.random() < 0.5
    named = rng.random() < 0.6
    who = rng.choice(NAMES[("she" if she else "he") + ("" if named else "_roles")])
    who = who if named else f"The {who}"
    word, own = ("she", "her") if she else ("he", "his")
    return rng.choice((
        f"{who} was tired, so {word} sat down.",
        f"{who} ran home because {word} was late.",
        f"{who} said that {word} would come.",
        f"{who} took {own} hat and went out.",
        f"{who} smiled when {word} saw the sea.",
        f"{who} could not sleep, and at last {word} got up.",
    ))  # fmt: skip


def opposites(rng: random.Random) -> str:
    """A word and its opposite."""
    one, two = rng.sample(rng.choice(OPPOSITES), 2)
    return rng.choice((
        f"{one.capitalize()} and {two} are opposites.",
        f"What is the opposite of {one}? It is {two}.",
        f"It was not {one} but {two}.",
        f"One said {one}, the other said {two}.",
        f"If a thing is not {one}, then it may be {two}.",
        f"{one.capitalize()} is the opposite of {two}.",
        f"I say {one}, you say {two}.",
        f"{one.capitalize()} is one thing, and its opposite is {two}.",
        f"The word {one} means the opposite of the word {two}.",
        f"The very opposite of {one}: {two}!",
    ))  # fmt: skip


def colours(rng: random.Random) -> str:
    """The colour that a thing has in tales."""
    thing, colour = rng.choice(WORDS["knowledge"]["colours"])
    start = thing[0].upper() + thing[1:]
    who, own = rng.choice(PEOPLE), rng.choice(STAGE["objects"])
    return rng.choice((
        f"{who} had a {own} as {colour} as {thing}.",
        f"{start} is {colour}.",
        f"What colour is {thing}? It is {colour}.",
        f"What is as {colour} as {thing}?",
        f"We all know that {thing} is {colour}.",
        f"{start} was {colour}, and {colour} was the {own}.",
        f"{who} painted {thing} and made it {colour}.",
        f"The colour that {thing} has is {colour}.",
    ))  # fmt: skip


def counting(rng: random.Random) -> str:
    """A stretch of a known sequence."""
    names = rng.choice(SEQUENCES)
    length = min(len(names), rng.randint(3, 9))
    start = rng.randint(0, len(names) - length)
    between = rng.choice((", ", ", ", " ", " and "))
    call = rng.choice(("", "", "", "He counted: ", "They said: ", "Listen: "))
    return call + between.join(names[start : start + length]) + "."


KINDS: tuple[tuple[Sentence, float], ...] = (
    (closing_quotes, 0.05), (two_names, 0.14), (pattern, 0.13), (agreement, 0.12),
    (he_or_she, 0.07), (opposites, 0.26), (colours, 0.17), (counting, 0.06),
)  # fmt: skip


def document(rng: random.Random) -> str:
    """Return one to five sentences of one skill or of several."""
    kinds, weights = zip(*KINDS, strict=True)
    count = rng.randint(1, 5)
    chosen = rng.choices(kinds, weights, k=count)
    chosen = [chosen[0]] * count if rng.random() < 0.5 else chosen
    return rng.choice((" ", " ", "\n\n")).join(kind(rng) for kind in chosen)


def documents(seed: int, count: int = 36000) -> list[str]:
    """Return many documents, the same ones for the same seed."""
    rng = random.Random(seed)
    return [document(rng) for _ in range(count)]
