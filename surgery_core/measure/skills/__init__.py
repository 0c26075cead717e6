"""Skills: small labelled sets of prompts with right and wrong answers, and how a model does on them.

Each TOML file of this folder is one skill. An item is right when the model finds the right continuation
more probable than every wrong one.
"""

from surgery_core.measure.skills.items import Skill, SkillItem, load_skills, read_skill
from surgery_core.measure.skills.scoring import ItemResult, SkillResult, score_skill, score_skills

__all__ = [
    "ItemResult",
    "Skill",
    "SkillItem",
    "SkillResult",
    "load_skills",
    "read_skill",
    "score_skill",
    "score_skills",
]
