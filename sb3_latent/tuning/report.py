"""What a study found, to look at: its trials as a table, and Optuna's own plots of them as a page and as pictures."""

import html
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sb3_latent.files import atomic_path

_logger = optuna.logging.get_logger("optuna.sb3_latent")


@dataclass(frozen=True)
class _Plot:
    """One of optuna's, which has its interactive and its still version under the same name."""

    name: str
    function: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    missing: str | None = None  # Why it cannot be drawn.


@dataclass(frozen=True)
class _Value:
    """One objective of a trial."""

    index: int
    sign: int = 1

    def __call__(self, trial: FrozenTrial) -> float:
        return self.sign * float(trial.values[self.index])


def write_report(study: optuna.Study, folder: str | Path, stem: str = "study", plots: bool = True) -> list[Path]:
    """
    Write all trials as ``<stem>_trials.csv``, and Optuna's plots as one page ``<stem>.html`` and as ``<stem>_<plot>.png``.

    The plots are ``history`` (values over trials), ``importances`` (by PED-ANOVA, Optuna's default) and ``parallel`` (each
    trial as a line through its parameters). With several objectives there is one of each per objective, which ends in its name
    (``study.set_metric_names``) or index, and with two or three a ``pareto`` front. The page opens without a network. What the
    trials cannot show, for they are too few or all alike, is left out, and a line in Optuna's log and on the page says why.

    :param study: finished or still running.
    :param folder: made if it is missing. An earlier report is replaced; its pictures that cannot be drawn now are deleted.
    :param stem: what the names of the files start with.
    :param plots: ``False`` writes the table alone.
    :return: the files written.
    :raises ImportError: if plotly, which draws the page, is not installed.
    """
    if plots and not optuna.visualization.is_available():
        raise ImportError("the report needs plotly, which is not installed: pip install plotly")
    paths = []
    if study.get_trials(deepcopy=False):
        paths.append(Path(folder, f"{stem}_trials.csv"))
        with atomic_path(paths[-1]) as temporary:
            study.trials_dataframe().to_csv(temporary, index=False)
    return paths + _draw(study, Path(folder), stem) if plots else paths


def _draw(study: optuna.Study, folder: Path, stem: str) -> list[Path]:
    plots = list(_plots(study))
    paths = [folder / f"{stem}.html"]
    with atomic_path(paths[0]) as temporary, _quiet():
        temporary.write_text("\n".join(_page(study, plots)), encoding="utf-8")
    for plot in plots:
        path = folder / f"{stem}_{plot.name}.png"
        if plot.missing:
            _logger.warning(f"{path.name} is left out: {plot.missing}.")
            path.unlink(missing_ok=True)
        else:
            _picture(study, plot, path)
            paths.append(path)
    return paths


def _plots(study: optuna.Study) -> Iterator[_Plot]:
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    n_objectives = len(study.directions)
    for index, metric in enumerate(study.metric_names or map(str, range(n_objectives))):
        finite = [trial for trial in trials if math.isfinite(trial.values[index])]
        label = metric if study.metric_names else f"Objective {metric}"
        shown: dict[str, Any] = {"target_name": label} if study.metric_names else {}
        judged = shown
        suffix = ""
        if n_objectives > 1:
            # PED-ANOVA asks which parameters make a target low.
            sign = 1 if study.directions[index] == StudyDirection.MINIMIZE else -1
            shown = {"target": _Value(index), "target_name": label}
            judged = {"target": _Value(index, sign), "target_name": label}
            suffix = "_" + re.sub(r"[^\w.-]+", "_", metric)
        none = None if finite else "no trial is complete with a finite value"
        parameters = none or _alike(finite)
        values = none or (None if len({trial.values[index] for trial in finite}) > 1 else "all values are equal")
        yield _Plot(f"history{suffix}", "plot_optimization_history", shown, none)
        yield _Plot(f"importances{suffix}", "plot_param_importances", judged, values or parameters)
        yield _Plot(f"parallel{suffix}", "plot_parallel_coordinate", shown, parameters)
    if n_objectives in {2, 3}:
        finite = [trial for trial in trials if all(map(math.isfinite, trial.values))]
        yield _Plot("pareto", "plot_pareto_front", {}, None if finite else "no trial is complete with finite values")


def _alike(trials: Sequence[FrozenTrial]) -> str | None:
    different = len({tuple(sorted(trial.params.items())) for trial in trials}) > 1
    return None if different else "there are not two trials with different parameters"


def _page(study: optuna.Study, plots: Sequence[_Plot]) -> Iterator[str]:
    title = html.escape(f"Study {study.study_name}")
    yield f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{title}</title></head><body><h1>{title}</h1>'
    library = True
    for plot in plots:
        if plot.missing:
            yield f"<p>{html.escape(plot.name)} is left out: {html.escape(plot.missing)}.</p>"
        else:
            figure = getattr(optuna.visualization, plot.function)(study, **plot.kwargs)
            yield figure.to_html(full_html=False, include_plotlyjs=library)
            library = False
    yield "</body></html>"


def _picture(study: optuna.Study, plot: _Plot, path: Path) -> None:
    # Optuna sets a style for all figures of the process.
    with plt.rc_context(), atomic_path(path) as temporary, _quiet():
        figure = getattr(optuna.visualization.matplotlib, plot.function)(study, **plot.kwargs).figure
        try:
            figure.savefig(temporary, dpi=150, bbox_inches="tight")
        finally:
            plt.close(figure)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes .* low `target`")  # _plots minds the sign.
        yield
