"""Every study, by its key."""

from __future__ import annotations

from surgery_core.errors import SettingsError
from surgery_core.studies import deleting, dropping, edits, few_items, growing, painting, skill_layers, through_lenses
from surgery_core.studies.calibration import CALIBRATION
from surgery_core.studies.collapse import COLLAPSE
from surgery_core.studies.curse import CURSE
from surgery_core.studies.depth import DEPTH
from surgery_core.studies.effective_depth import EFFECTIVE_DEPTH
from surgery_core.studies.programs import PROGRAMS
from surgery_core.studies.study import Study
from surgery_core.studies.survival import SURVIVAL

STUDIES: tuple[Study, ...] = (
    # of measurements that sweeps, lenses and skills make
    *deleting.STUDIES,
    *edits.STUDIES,
    *painting.STUDIES,
    *dropping.STUDIES,
    *growing.STUDIES,
    *skill_layers.STUDIES,
    *few_items.STUDIES,
    *through_lenses.STUDIES,
    DEPTH,
    EFFECTIVE_DEPTH,
    PROGRAMS,
    CALIBRATION,
    COLLAPSE,
    CURSE,
    SURVIVAL,
)
"""All of them, in the order in which lists show them."""


def study_of(key: str) -> Study:
    """Return the study with this key.

    Raises:
        SettingsError: when there is none; it names them all.
    """
    for study in STUDIES:
        if study.key == key:
            return study
    raise SettingsError(f"There is no study {key!r}; there are: {', '.join(study.key for study in STUDIES)}.")
