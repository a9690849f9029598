"""The beginning of the report: which runs there are, how they were set up, what could not be used."""

from sb3_latent.report.blocks import Missing, Part, Section, Table
from sb3_latent.report.material import Material, RunData

_MAIN = (
    "algo",
    "policy",
    "policy_class",
    "env",
    "observation_space",
    "action_space",
    "num_timesteps",
    "n_envs",
    "seed",
    "learning_rate",
    "gamma",
    "batch_size",
    "n_steps",
    "n_epochs",
    "buffer_size",
    "ent_coef",
    "clip_range",
)
_ENCODER = "policy_kwargs."
_SETTING = "Setting"


def runs_section(material: Material) -> Section:
    """
    :param material: of all runs.
    :return: a line for each run.
    """
    head = ["Run", "Method", "Environment", "Steps", "Return at the end"]
    rows = [[one.run.name, one.label, one.env_id or "unknown", _steps(one), _return(one)] for one in material.runs]
    parts = [Part("", "", [Table("Runs of this report", head, rows)])]
    problems = [[one.run.name, problem] for one in material.runs for problem in one.problems]
    if problems:
        parts.append(Part("What could not be used", "", [Table("What could not be used", ["Run", "Why"], problems)]))
    data = [
        {"run": one.run.name, "label": one.label, "folder": str(one.run.folder), "env": one.env_id, "problems": one.problems}
        for one in material.runs
    ]
    return Section("runs", "Runs", parts, data)


def configuration_section(material: Material) -> Section:
    """
    :param material: of all runs.
    :return: what differs between methods, the main settings, and all of them on demand; a column for each method.
    """
    data = {one.run.name: one.settings for one in material.runs}
    if not any(data.values()):
        missing = Missing("No configuration was found: save the model into the folder of the run, or train with rl_zoo3.")
        return Section("configuration", "Configuration", [Part("", "", [missing])], data)
    names = list(dict.fromkeys(name for one in material.runs for name in one.settings))
    cells = {name: [_of_label(material, label, name) for label in material.labels] for name in names}
    main = [name for name in _MAIN if name in cells] + [name for name in names if name.startswith(_ENCODER)]
    head = [_SETTING, *material.labels]
    parts = []
    differing = [name for name in names if len(set(cells[name])) > 1]
    if differing:
        table = Table("Settings that differ between methods", head, [[name, *cells[name]] for name in differing])
        parts.append(Part("What differs", "", [table]))
    parts.append(Part("Main settings", "", [Table("Main settings", head, [[name, *cells[name]] for name in main])]))
    everything = [[name, *cells[name]] for name in sorted(names)]
    parts.append(Part("", "", [Table("All settings and versions", head, everything, folded=True)]))
    return Section("configuration", "Configuration", parts, data)


def _of_label(material: Material, label: str, name: str) -> str:
    """Seeds of one method in one cell."""
    values = dict.fromkeys(one.settings[name] for one in material.of(label) if name in one.settings)
    return ", ".join(values) or "none"


def _steps(one: RunData) -> str:
    known = one.settings.get("num_timesteps", "")
    logged = [int(series.steps[-1]) for tag, series in one.logs.scalars.items() if tag.startswith(("rollout/", "train/"))]
    return f"{int(known):,}" if known.isdecimal() else f"{max(logged):,}" if logged else "unknown"


def _return(one: RunData) -> str:
    for score in one.logs.scores.values():
        return f"{score.value:.4g}"
    return "unknown"
