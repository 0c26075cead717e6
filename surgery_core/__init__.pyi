"""The public names, each with the module that it comes from: the one list, for type checkers and at run time."""

from .bench.bench import (
    BaseInterpretabilityBench as BaseInterpretabilityBench,
)
from .bench.bench import (
    Bench as Bench,
)
from .bench.experiment import (
    Experiment as Experiment,
)
from .bench.experiment import (
    read_experiment as read_experiment,
)
from .charts.plan_picture import (
    plan_picture as plan_picture,
)
from .errors import (
    AnatomyError as AnatomyError,
)
from .errors import (
    ExperimentError as ExperimentError,
)
from .errors import (
    InputError as InputError,
)
from .errors import (
    LensError as LensError,
)
from .errors import (
    ModelError as ModelError,
)
from .errors import (
    ModelLoadError as ModelLoadError,
)
from .errors import (
    NotationError as NotationError,
)
from .errors import (
    PlanError as PlanError,
)
from .errors import (
    RecipeError as RecipeError,
)
from .errors import (
    RefusedPlanError as RefusedPlanError,
)
from .errors import (
    ReportError as ReportError,
)
from .errors import (
    SettingsError as SettingsError,
)
from .errors import (
    Stopped as Stopped,
)
from .errors import (
    SurgeryError as SurgeryError,
)
from .errors import (
    SweepFileError as SweepFileError,
)
from .errors import (
    TextError as TextError,
)
from .keeping.checkpoint import (
    export_checkpoint as export_checkpoint,
)
from .keeping.gguf_file import (
    export_gguf as export_gguf,
)
from .keeping.healed import (
    export_healed as export_healed,
)
from .keeping.kept import (
    keep as keep,
)
from .keeping.mergekit import (
    from_mergekit as from_mergekit,
)
from .keeping.mergekit import (
    to_mergekit as to_mergekit,
)
from .keeping.report.verify import (
    verify as verify,
)
from .keeping.report.written import (
    write_report as write_report,
)
from .lenses.averages import (
    lens_averages as lens_averages,
)
from .lenses.files import (
    load_lens as load_lens,
)
from .lenses.files import (
    save_lens as save_lens,
)
from .lenses.jacobian import (
    JacobianLens as JacobianLens,
)
from .lenses.jacobian import (
    Jacobians as Jacobians,
)
from .lenses.jacobian import (
    merge_jacobians as merge_jacobians,
)
from .lenses.jacobian_files import (
    load_jacobians as load_jacobians,
)
from .lenses.jacobian_files import (
    save_jacobians as save_jacobians,
)
from .lenses.jacobian_fit import (
    JacobianFit as JacobianFit,
)
from .lenses.jacobian_fit import (
    fit_jacobian_lens as fit_jacobian_lens,
)
from .lenses.quality import (
    lens_quality as lens_quality,
)
from .lenses.reading import (
    LogitLens as LogitLens,
)
from .lenses.reading import (
    one_token as one_token,
)
from .lenses.reading import (
    read_lens as read_lens,
)
from .lenses.swapping import (
    swap as swap,
)
from .lenses.training import (
    LensTraining as LensTraining,
)
from .lenses.training import (
    train_lens as train_lens,
)
from .lenses.trajectory import (
    Trajectory as Trajectory,
)
from .lenses.tuned import (
    Translators as Translators,
)
from .lenses.tuned import (
    TunedLens as TunedLens,
)
from .measure.compare import (
    Reference as Reference,
)
from .measure.compare import (
    compare as compare,
)
from .measure.compare import (
    reference as reference,
)
from .measure.compare import (
    score as score,
)
from .measure.generation import (
    Generation as Generation,
)
from .measure.generation import (
    complete as complete,
)
from .measure.generation import (
    generate as generate,
)
from .measure.importance import (
    Importance as Importance,
)
from .measure.importance import (
    importance as importance,
)
from .measure.importance import (
    rank_correlation as rank_correlation,
)
from .measure.results import (
    Comparison as Comparison,
)
from .measure.results import (
    ScoreTable as ScoreTable,
)
from .measure.results import (
    TextScore as TextScore,
)
from .measure.skills import (
    Skill as Skill,
)
from .measure.skills import (
    SkillResult as SkillResult,
)
from .measure.skills import (
    load_skills as load_skills,
)
from .measure.skills import (
    score_skills as score_skills,
)
from .models.offered import (
    DEFAULT_MODEL as DEFAULT_MODEL,
)
from .models.offered import (
    ModelChoice as ModelChoice,
)
from .models.offered import (
    list_models as list_models,
)
from .models.opening import (
    AdapterInfo as AdapterInfo,
)
from .models.opening import (
    LoadedModel as LoadedModel,
)
from .models.opening import (
    ModelInfo as ModelInfo,
)
from .models.opening import (
    load_model as load_model,
)
from .plans.generation_settings import (
    GenerationSettings as GenerationSettings,
)
from .plans.plan import (
    LayerPlan as LayerPlan,
)
from .plans.presets import (
    PRESETS as PRESETS,
)
from .plans.presets import (
    Preset as Preset,
)
from .plans.presets import (
    all_presets as all_presets,
)
from .plans.slots import (
    MAX_SLOTS as MAX_SLOTS,
)
from .plans.slots import (
    Layer as Layer,
)
from .plans.slots import (
    Slot as Slot,
)
from .proof.checks import (
    Check as Check,
)
from .proof.export import (
    export_model as export_model,
)
from .proof.preflight import (
    PreflightReport as PreflightReport,
)
from .proof.preflight import (
    preflight as preflight,
)
from .proof.preflight import (
    prove as prove,
)
from .recipes.recipe import (
    Recipe as Recipe,
)
from .recipes.run import (
    Report as Report,
)
from .recipes.run import (
    operated_model as operated_model,
)
from .recipes.run import (
    run_recipe as run_recipe,
)
from .states.means import (
    mean_contributions as mean_contributions,
)
from .states.shared_prompt import (
    SharedPrompt as SharedPrompt,
)
from .surgery.anatomy import (
    Anatomy as Anatomy,
)
from .surgery.anatomy import (
    inspect_model as inspect_model,
)
from .surgery.in_place import (
    ModelSurgery as ModelSurgery,
)
from .surgery.ingredients import (
    Means as Means,
)
from .surgery.names import (
    PartNames as PartNames,
)
from .surgery.names import (
    name_parts as name_parts,
)
from .surgery.stitches import (
    Stitches as Stitches,
)
from .surgery.view import (
    operate as operate,
)
from .suture.heal import (
    heal as heal,
)
from .suture.heal_report import (
    HealReport as HealReport,
)
from .suture.heal_report import (
    heal_report as heal_report,
)
from .suture.healing import (
    Healing as Healing,
)
from .suture.healing import (
    HealProgress as HealProgress,
)
from .suture.report import (
    StitchReport as StitchReport,
)
from .suture.report import (
    stitch_report as stitch_report,
)
from .suture.stitch import (
    stitch as stitch,
)
from .sweeps.file import (
    SweepFile as SweepFile,
)
from .sweeps.file import (
    SweepIdentity as SweepIdentity,
)
from .sweeps.file import (
    SweepResult as SweepResult,
)
from .sweeps.findings import (
    Best as Best,
)
from .sweeps.findings import (
    BestByAnswers as BestByAnswers,
)
from .sweeps.findings import (
    best_on_unseen as best_on_unseen,
)
from .sweeps.findings import (
    best_on_unseen_items as best_on_unseen_items,
)
from .sweeps.kinds import (
    KINDS as KINDS,
)
from .sweeps.kinds import (
    SweepKind as SweepKind,
)
from .sweeps.kinds import (
    SweepPoint as SweepPoint,
)
from .sweeps.kinds import (
    all_kinds as all_kinds,
)
from .sweeps.kinds import (
    sweep_kind as sweep_kind,
)
from .sweeps.kinds import (
    sweep_points as sweep_points,
)
from .sweeps.options import (
    SweepOptions as SweepOptions,
)
from .sweeps.removal import (
    Removal as Removal,
)
from .sweeps.removal import (
    remove_greedily as remove_greedily,
)
from .sweeps.rows import (
    SweepRow as SweepRow,
)
from .sweeps.setup import (
    SweepMeasures as SweepMeasures,
)
from .sweeps.sweep import (
    Sweep as Sweep,
)
from .sweeps.sweep import (
    sweep as sweep,
)
from .text import (
    MAX_TEXT_BYTES as MAX_TEXT_BYTES,
)
from .text import (
    Prompt as Prompt,
)
from .text import (
    Text as Text,
)
from .text import (
    TextSet as TextSet,
)
from .text import (
    as_papers as as_papers,
)
from .text import (
    bundled_prompts as bundled_prompts,
)
from .text import (
    bundled_texts as bundled_texts,
)
from .text import (
    chat_text as chat_text,
)
from .text import (
    has_chat_template as has_chat_template,
)
from .text import (
    read_text as read_text,
)
from .text import (
    text_sets as text_sets,
)
from .text import (
    token_strings as token_strings,
)
from .text import (
    visible as visible,
)
from .text_sources.dataset import (
    read_dataset as read_dataset,
)
from .text_sources.files import (
    open_texts as open_texts,
)
from .text_sources.files import (
    read_files as read_files,
)
from .text_sources.found import (
    FoundTexts as FoundTexts,
)

__version__: str
