"""Recipes: a whole experiment as a small TOML file.

    version = 1
    title = "Without the middle"
    model = "fable"
    plan = "0-4,7-11"
    seed = 0
    texts = ["A walk in the wood"]       # titles of bundled texts; leave out for all of them
    prompts = ["Once upon a time"]
    cut = "papers"                       # joined and cut into windows; leave out to score each text for itself
    lens = "Once upon a time"            # what the app's Lens page reads
    margin = 0.02                        # perplexities within 2 % of each other count as the same

    [generation]
    max_new_tokens = 64
    temperature = 0.0
    chat = false                         # true: prompts are messages to an instruct model

    [[own_texts]]
    title = "Mine"
    text = "The text itself."

    [figures.values]                     # what it came to, for `verify`; a recipe is read without them
    "perplexity after" = 85.8

Instead of `texts` it may name a set: one that comes along by its name, or one's own by its digest, with the texts
themselves where they are few:

    [text_set]
    name = "stories"

    [text_set]
    title = "My letters"
    digest = "6d0c..."
    number = 2
    texts = [{ title = "One", text = "..." }, { title = "Two", text = "..." }]

Version 2 adds what an experiment of the gallery has; `plan` may be left out there, for the unchanged model:

    version = 2
    question = "Which layers can a model do without?"
    do = "On the Sweep page choose 'Which layers matter?' and press Start."

    [[plans]]                            # side by side, at most six
    name = "Without the middle"
    plan = "0-4,7-11"

    [sweep]
    kind = "delete"                      # and options: layer, max_length, times, factors, seed; best, start, skills, prompt
    texts = ["A walk in the wood"]       # titles of those of the recipe's texts that it scores; leave out for all

    [swap]                               # a word swapped while the text of the lens is continued
    slot = 5                             # whose output is changed, counted in running order from 0
    source = " fox"                      # one token each, as the model writes it
    target = " wolf"                     # and: side, strength, positions, follow, lens

    [study]
    name = "delete-each"                 # its options follow as further keys

    [paper]                              # what the paper saw; all of it is the paper's
    title = "The Remarkable Robustness of LLMs: Stages of Inference?"
    by = "Lad, Gurnee, Tegmark, 2024"
    arxiv = "2406.19384"                 # or url
    where = "Abstract"
    says = "Models keep 72 to 95 % of their top-1 predictions without a middle layer."
    figure = "72 to 95 %"                # left out where no number was read in the paper itself
    read = "abstract"                    # text, abstract or second hand

    [claim]                              # where the study's figure lies if that holds here too
    says = "At least 72 % of top-1 predictions are kept."
    at_least = 0.72                      # or at_most, or both

    [meaning]                            # of each outcome
    seen = "..."
    unseen = "..."
    open = "..."

    [expected]                           # outcome by model
    fable = "seen here too"

A recipe says what is measured. Where and how fast it runs (device, dtype) is said when it is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from surgery_core.bounded import Unreadable, read_toml
from surgery_core.errors import InputError, RecipeError
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.fields import wrong
from surgery_core.recipes.lines import line_of
from surgery_core.recipes.parts import (
    MOST_PLANS,
    Claimed,
    Meaning,
    NamedPlan,
    Paper,
    StudyChoice,
    SweepChoice,
    check_plan,
)
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_core.recipes.written import table_of, values_of
from surgery_core.statistics.verdict import MARGIN, checked_margin
from surgery_core.text import CUTS, EACH, Text, read_text
from surgery_core.whole_files import write_whole

if TYPE_CHECKING:
    from surgery_core.plans.generation_settings import GenerationSettings
    from surgery_core.studies.finding import Outcome

MAX_RECIPE_BYTES = 5_000_000


@dataclass(frozen=True)
class Recipe:
    """One experiment: a model, a plan, and what to measure.

    Attributes:
        model: the name that `load_model` takes.
        plan: the operated model's anatomy in the plan notation; `""` is the model with no layers. None is the unchanged
            model, where there are plans, a sweep or a study.
        title: what a list of recipes shows.
        note: what to look for, in a sentence or two.
        revision: a branch, tag or commit of a hub model, or None for its main branch.
        texts: titles of bundled texts to score, or None for all of them.
        own_texts: texts of one's own to score.
        text_set: instead of `texts`, a whole set of them.
        margin: share of the perplexity within which two models count as the same.
        cut: how the set is scored: `"each"` text for itself, or as `"papers"` do it (`surgery_core.text.as_papers`).
        prompts: beginnings that the model continues before and after.
        lens: a text that the app's Lens page reads; `run_recipe` continues it where there is a swap, and else leaves it
            alone.
        topic: what lists of recipes are ordered by.
        question: what the experiment asks.
        do: how it is done by hand, in a sentence or two.
        plans: plans side by side, at most six, each compared with the unchanged model.
        sweep: one kind of edit tried everywhere.
        swap: a word swapped where a Jacobian lens reads it.
        study: the study that answers the question.
        paper: what a paper saw.
        claim: where the study's figure lies if that holds here too.
        meaning: what each outcome means.
        expected: model and outcome, for each model on which it is known.
        max_new_tokens: length of each continuation, in tokens.
        temperature: 0 for the likeliest token each time; above, the spread of the choice.
        top_k: choose among this many tokens; 0 for no limit.
        top_p: choose among the likeliest tokens that sum to this probability, in (0, 1].
        seed: of the choice of tokens.
        chat: whether prompts are messages, put to the model by its chat template.
        system: what the model is told before each message; only with `chat`.
    """

    model: str
    plan: str | None = None
    title: str = ""
    note: str = ""
    revision: str | None = None
    texts: tuple[str, ...] | None = None
    own_texts: tuple[Text, ...] = ()
    prompts: tuple[str, ...] = ()
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    chat: bool = False
    system: str = ""
    lens: str = ""
    text_set: ChosenSet | None = None
    cut: str = EACH
    margin: float = MARGIN
    topic: str = ""
    question: str = ""
    do: str = ""
    plans: tuple[NamedPlan, ...] = ()
    sweep: SweepChoice | None = None
    swap: SwapChoice | None = None
    study: StudyChoice | None = None
    paper: Paper | None = None
    claim: Claimed | None = None
    meaning: Meaning | None = None
    expected: tuple[tuple[str, Outcome], ...] = ()

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise wrong("model", "is empty; write a model's name such as fable")
        if self.plan is not None:
            check_plan(self.plan, "plan")
        self._check_second()
        try:
            _ = self.settings
        except InputError as error:
            raise wrong("generation", f"is out of range. {error}") from error
        if self.cut not in CUTS:
            raise wrong("cut", f"is {self.cut!r}; there are {' and '.join(CUTS)}")
        try:
            checked_margin(self.margin)
        except InputError as error:
            raise wrong("margin", f"is out of range. {error}") from error
        if self.text_set is not None and self.texts is not None:
            raise wrong("text_set", "stands beside texts; leave one of the two out")
        for text in self.own_texts:
            try:
                read_text(text.text, text.title)
            except InputError as error:
                raise wrong("own_texts", f"has a text that cannot be read. {error}") from error

    def _check_second(self) -> None:
        """Refuse what of version 2 does not go together."""
        if self.plan is None and not (self.plans or self.sweep or self.swap or self.study):
            raise wrong("plan", "is missing; every recipe has one, or else plans, a sweep, a swap or a study")
        if self.swap is not None and not self.text_of_lens:
            raise wrong("swap", "continues a text and there is none; give lens, or prompts")
        if len(self.plans) > MOST_PLANS:
            raise wrong(f"plans[{MOST_PLANS}]", f"is one too many; at most {MOST_PLANS} stand side by side")
        names = [one.name for one in self.plans]
        for at, plan in enumerate(self.plans):
            check_plan(plan.plan, f"plans[{at}].plan")
            if plan.name in names[:at]:
                raise wrong(f"plans[{at}].name", f"is {plan.name!r:.60}, as another one's; give it a name of its own")
        if self.claim is not None and self.study is None:
            raise wrong("claim", "is about a study's figure and there is none; add [study] or leave it out")
        for name in ("meaning", "expected"):
            if getattr(self, name) and self.claim is None:
                raise wrong(name, "is about a claim and there is none; add [claim] or leave it out")

    @property
    def text_of_lens(self) -> str:
        """Return what is read through a lens: the text for it, or the first prompt; empty where there is neither."""
        return self.lens or next(iter(self.prompts), "")

    def plan_of(self, n_layers: int) -> LayerPlan:
        """Return the plan for a model of this depth.

        Raises:
            PlanError: when it names layers that such a model has not.
        """
        return LayerPlan.identity(n_layers) if self.plan is None else LayerPlan.parse(self.plan, n_layers)

    @property
    def settings(self) -> GenerationSettings:
        """Return how the prompts are continued."""
        from surgery_core.plans.generation_settings import GenerationSettings

        return GenerationSettings(
            self.max_new_tokens, self.temperature, self.top_k, self.top_p, self.seed, self.chat, self.system
        )

    @classmethod
    def loads(cls, text: str) -> Recipe:
        """Read a recipe from TOML.

        Raises:
            RecipeError: names the field that is unknown, missing, of the wrong type or out of range, and its line.
        """
        try:
            table = read_toml(text)
        except Unreadable as error:
            raise RecipeError(f"The recipe {error}.") from error
        try:
            return cls(**values_of(table))
        except RecipeError as error:
            line = line_of(text, error.field) if error.field else None
            if line is None:
                raise
            raise RecipeError(f"Line {line}: {error}", error.field, line) from error

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe from a file.

        Raises:
            RecipeError: when the file is missing, too large, not UTF-8, or not a recipe.
        """
        try:
            data = Path(path).read_bytes()
            if len(data) > MAX_RECIPE_BYTES:
                raise RecipeError(
                    f"The recipe {str(path)!r} is larger than {MAX_RECIPE_BYTES:,} bytes; shorten its texts."
                )
            return cls.loads(data.decode("utf-8"))
        except OSError as error:
            raise RecipeError(f"The recipe {str(path)!r} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError:
            raise RecipeError(f"The recipe {str(path)!r} is not UTF-8 text; save it as UTF-8.") from None

    def dumps(self) -> str:
        """Return the recipe as TOML; `loads` reads it back to an equal recipe."""
        return tomli_w.dumps(table_of(self))

    def dump(self, path: str | Path) -> None:
        """Write the recipe to a file, whole or not at all.

        Raises:
            RecipeError: when the file cannot be written.
        """
        try:
            write_whole(path, self.dumps().encode("utf-8"))
        except (OSError, UnicodeEncodeError) as error:
            raise RecipeError(f"The recipe cannot be written to {str(path)!r}: {error}.") from error
