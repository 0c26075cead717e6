"""Layer surgery on causal language models: plans, views, measurements.

    import surgery_core as sc

    loaded = sc.load_model("fable")
    view = sc.operate(loaded.model, "0-4,6,5,7-11")
    print(sc.compare(loaded.model, view, loaded.tokenizer, sc.bundled_texts()).frame())

Names are loaded when they are first used, so that importing this package costs neither torch nor transformers.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgery_core.anatomy import Anatomy, inspect_model
    from surgery_core.errors import (
        AnatomyError,
        InputError,
        LensError,
        ModelError,
        ModelLoadError,
        NotationError,
        PlanError,
        RecipeError,
        RefusedPlanError,
        SettingsError,
        Stopped,
        SurgeryError,
        SweepFileError,
        TextError,
    )
    from surgery_core.export import export_model
    from surgery_core.generate import Generation, GenerationSettings, complete, generate
    from surgery_core.importance import Importance, importance, rank_correlation
    from surgery_core.lens import LogitLens, one_token, read_lens
    from surgery_core.lens_averages import lens_averages
    from surgery_core.lens_files import load_lens, save_lens
    from surgery_core.lens_training import LensTraining, lens_quality, train_lens
    from surgery_core.material import Means, mean_contributions
    from surgery_core.measure import Reference, compare, reference, score
    from surgery_core.models import DEFAULT_MODEL, LoadedModel, ModelChoice, ModelInfo, list_models, load_model
    from surgery_core.operate import ModelSurgery
    from surgery_core.plan import MAX_SLOTS, Layer, LayerPlan, Slot
    from surgery_core.preflight import PreflightReport, preflight, prove
    from surgery_core.presets import PRESETS, Preset
    from surgery_core.recipe import Recipe
    from surgery_core.results import Comparison, ScoreTable, TextScore
    from surgery_core.run import Report, operated_model, run_recipe
    from surgery_core.search import Removal, remove_greedily
    from surgery_core.skills import Skill, SkillResult, load_skills, score_skills
    from surgery_core.sweep import Sweep, SweepMeasures, sweep
    from surgery_core.sweep_file import SweepFile, SweepIdentity, SweepResult
    from surgery_core.sweep_plans import KINDS, SweepKind, SweepOptions, SweepPoint, sweep_kind, sweep_points
    from surgery_core.sweep_rows import SweepRow
    from surgery_core.text import (
        MAX_TEXT_BYTES,
        Prompt,
        Text,
        bundled_prompts,
        bundled_texts,
        read_text,
        token_strings,
        visible,
    )
    from surgery_core.trajectory import Trajectory
    from surgery_core.trial import Check
    from surgery_core.tuned_lens import Translators, TunedLens
    from surgery_core.view import operate

_MODULES = {
    "anatomy": "Anatomy inspect_model",
    "errors": "AnatomyError InputError LensError ModelError ModelLoadError NotationError PlanError RecipeError "
    "RefusedPlanError SettingsError Stopped SurgeryError SweepFileError TextError",
    "export": "export_model",
    "generate": "Generation GenerationSettings complete generate",
    "importance": "Importance importance rank_correlation",
    "lens": "LogitLens one_token read_lens",
    "lens_averages": "lens_averages",
    "lens_files": "load_lens save_lens",
    "lens_training": "LensTraining lens_quality train_lens",
    "material": "Means mean_contributions",
    "measure": "Reference compare reference score",
    "models": "DEFAULT_MODEL LoadedModel ModelChoice ModelInfo list_models load_model",
    "operate": "ModelSurgery",
    "plan": "MAX_SLOTS Layer LayerPlan Slot",
    "preflight": "PreflightReport preflight prove",
    "presets": "PRESETS Preset",
    "recipe": "Recipe",
    "results": "Comparison ScoreTable TextScore",
    "run": "Report operated_model run_recipe",
    "search": "Removal remove_greedily",
    "skills": "Skill SkillResult load_skills score_skills",
    "sweep": "Sweep SweepMeasures sweep",
    "sweep_file": "SweepFile SweepIdentity SweepResult",
    "sweep_plans": "KINDS SweepKind SweepOptions SweepPoint sweep_kind sweep_points",
    "sweep_rows": "SweepRow",
    "text": "MAX_TEXT_BYTES Prompt Text bundled_prompts bundled_texts read_text token_strings visible",
    "trajectory": "Trajectory",
    "trial": "Check",
    "tuned_lens": "Translators TunedLens",
    "view": "operate",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

__version__ = "0.1.0"
__all__ = [  # noqa: RUF022
    "Anatomy",
    "AnatomyError",
    "Check",
    "Comparison",
    "DEFAULT_MODEL",
    "Generation",
    "GenerationSettings",
    "Importance",
    "InputError",
    "KINDS",
    "Layer",
    "LayerPlan",
    "LensError",
    "LensTraining",
    "LoadedModel",
    "LogitLens",
    "MAX_SLOTS",
    "MAX_TEXT_BYTES",
    "Means",
    "ModelChoice",
    "ModelError",
    "ModelInfo",
    "ModelLoadError",
    "ModelSurgery",
    "NotationError",
    "PRESETS",
    "PlanError",
    "PreflightReport",
    "Preset",
    "Prompt",
    "Recipe",
    "RecipeError",
    "Reference",
    "RefusedPlanError",
    "Removal",
    "Report",
    "ScoreTable",
    "SettingsError",
    "Skill",
    "SkillResult",
    "Slot",
    "Stopped",
    "SurgeryError",
    "Sweep",
    "SweepFile",
    "SweepFileError",
    "SweepIdentity",
    "SweepKind",
    "SweepMeasures",
    "SweepOptions",
    "SweepPoint",
    "SweepResult",
    "SweepRow",
    "Text",
    "TextError",
    "TextScore",
    "Trajectory",
    "Translators",
    "TunedLens",
    "bundled_prompts",
    "bundled_texts",
    "compare",
    "complete",
    "export_model",
    "generate",
    "importance",
    "inspect_model",
    "lens_averages",
    "lens_quality",
    "list_models",
    "load_lens",
    "load_model",
    "load_skills",
    "mean_contributions",
    "one_token",
    "operate",
    "operated_model",
    "preflight",
    "prove",
    "rank_correlation",
    "read_lens",
    "read_text",
    "reference",
    "remove_greedily",
    "run_recipe",
    "save_lens",
    "score",
    "score_skills",
    "sweep",
    "sweep_kind",
    "sweep_points",
    "token_strings",
    "train_lens",
    "visible",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package whose exported functions win over submodules of the same name (`operate`, `generate`, ...)."""

    def __setattr__(self, name: str, value: Any) -> None:
        # importing a submodule sets it as an attribute here
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
