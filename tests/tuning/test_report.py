"""The report of a study: what is in the files, and studies that cannot show something."""

import math
import os
import re
import sys

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image

from sb3_latent.tuning.report import write_report

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:Attempting to set identical"),
]
SPACE = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(["ae", "vae"])}
NAN, INF = math.nan, math.inf
SINGLE = ["history", "importances", "parallel"]


def study_of(values, names=("x", "kind"), alike=False, states=None, **kwargs):
    """One trial per value, or values, with parameters of these names."""
    study = optuna.create_study(study_name="a <b> & c", **kwargs)
    for i, value in enumerate(values):
        params = {"x": 0.5 if alike else i / 10, "kind": "ae" if alike or i % 2 else "vae"}
        outcome = {"values": value} if isinstance(value, tuple) else {"value": value}
        state = states[i] if states else TrialState.COMPLETE
        chosen = {name: params[name] for name in names}
        space = {name: SPACE[name] for name in names}
        study.add_trial(create_trial(state=state, params=chosen, distributions=space, **outcome))
    return study


def names(paths):
    return {path.name for path in paths}


def pictures(*plots, stem="study"):
    return {f"{stem}_{plot}.png" for plot in plots}


def test_a_study_with_one_objective(tmp_path):
    study = study_of([3.0, 1.0, 2.0, 5.0, 4.0])
    paths = write_report(study, tmp_path / "new" / "folder", stem="tiny")
    assert names(paths) == {"tiny_trials.csv", "tiny.html"} | pictures(*SINGLE, stem="tiny")
    assert set(paths) == set((tmp_path / "new" / "folder").iterdir())
    table = pd.read_csv(paths[0])
    assert table["value"].tolist() == [3, 1, 2, 5, 4]
    assert table["params_kind"].tolist() == ["vae", "ae", "vae", "ae", "vae"]
    np.testing.assert_allclose(table["params_x"], [0, 0.1, 0.2, 0.3, 0.4])
    for path in paths[2:]:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        assert min(pixels.shape) > 400 and pixels.std() > 5


def test_the_page_has_every_plot_and_needs_no_network(tmp_path):
    page = write_report(study_of([3.0, 1.0, 2.0]), tmp_path)[1].read_text(encoding="utf-8")
    assert len(page) > 1e6 and page.count("plotly.js v") == 1
    outside_code = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"<script[^>]*\bsrc=|<link|https?://", outside_code + "".join(re.findall(r"<script[^>]*>", page)))
    assert page.count("Plotly.newPlot(") >= 3
    for title in ("Optimization History Plot", "Hyperparameter Importances", "Parallel Coordinate Plot"):
        assert title in page
    assert "<h1>Study a &lt;b&gt; &amp; c</h1>" in page and "left out" not in page


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("metric_names", [None, ["eval/return", "elbo"]])
def test_a_study_with_two_objectives(metric_names, tmp_path):
    study = study_of([(i, (i - 3.0) ** 2) for i in range(6)], directions=["maximize", "minimize"])
    ends = ["0", "1"]
    if metric_names:
        study.set_metric_names(metric_names)
        ends = ["eval_return", "elbo"]
    paths = write_report(study, tmp_path)
    assert names(paths) == {"study_trials.csv", "study.html"} | pictures(
        *(f"{plot}_{end}" for plot in SINGLE for end in ends), "pareto"
    )
    page = paths[1].read_text(encoding="utf-8")
    assert page.count("plotly.js v") == 1 and "Pareto-front Plot" in page
    for label in metric_names or ["Objective 0", "Objective 1"]:
        assert label in page or label.replace("/", "\\u002f") in page


def test_each_objective_is_drawn_from_its_own_values(tmp_path, monkeypatch):
    study = study_of([(1.0, -7.0), (2.0, -8.0)], directions=["maximize", "minimize"])
    drawn = []
    original = optuna.visualization.plot_optimization_history

    def spy(study, **kwargs):
        figure = original(study, **kwargs)
        drawn.append(list(figure.data[0].y))
        return figure

    monkeypatch.setattr(optuna.visualization, "plot_optimization_history", spy)
    write_report(study, tmp_path)
    assert drawn == [[1, 2], [-7, -8]]


@pytest.mark.filterwarnings("ignore:PedAnovaImportanceEvaluator computes")
def test_importances_of_an_objective_are_for_its_direction(tmp_path, monkeypatch):
    """The answer of Optuna for a study with that objective alone, which knows the direction."""
    values = [(float(value), 0.0) for value in (5, 1, 4, 1, 3, 1, 0, 6, 7, 9)]
    study = study_of(values, directions=["maximize", "minimize"])
    alone = study_of([value for value, _ in values], direction="maximize")
    drawn = []
    original = optuna.visualization.plot_param_importances

    def spy(study, **kwargs):
        drawn.append(optuna.importance.get_param_importances(study, target=kwargs["target"]))
        return original(study, **kwargs)

    monkeypatch.setattr(optuna.visualization, "plot_param_importances", spy)
    write_report(study, tmp_path)
    assert drawn == [optuna.importance.get_param_importances(alone)]
    assert drawn != [optuna.importance.get_param_importances(study, target=lambda trial: trial.values[0])]


def test_four_objectives_have_no_pareto_front(tmp_path, caplog):
    study = study_of([(INF,) * 4], directions=["maximize"] * 4)
    write_report(study, tmp_path)
    assert "study_history_3.png is left out" in caplog.text and "pareto" not in caplog.text


NO_VALUE, NO_DIFFERENCE = "no trial is complete with a finite value", "not two trials with different parameters"
PRUNED = [TrialState.PRUNED] * 3


@pytest.mark.parametrize(
    ("study", "drawn", "reasons"),
    [
        pytest.param(study_of([]), [], [NO_VALUE], id="no trial"),
        pytest.param(study_of([1.0]), ["history"], ["all values are equal", NO_DIFFERENCE], id="one trial"),
        pytest.param(study_of([1.0, 2.0], names=["x"]), SINGLE, [], id="one parameter"),
        pytest.param(study_of([1.0, 2.0], names=[]), ["history"], [NO_DIFFERENCE], id="no parameter"),
        pytest.param(study_of([1.0, 2.0, 3.0], alike=True), ["history"], [NO_DIFFERENCE], id="equal parameters"),
        pytest.param(study_of([1.0] * 4), ["history", "parallel"], ["all values are equal"], id="equal values"),
        pytest.param(study_of([None] * 3, states=PRUNED), [], [NO_VALUE], id="all pruned"),
        pytest.param(study_of([INF, 1.0, -INF, 2.0]), SINGLE, [], id="infinite"),
        pytest.param(study_of([INF, INF]), [], [NO_VALUE], id="all infinite"),
    ],
)
def test_what_cannot_be_drawn_is_left_out_and_says_why(study, drawn, reasons, tmp_path, caplog):
    paths = write_report(study, tmp_path)
    table = {"study_trials.csv"} if study.trials else set()
    assert names(paths) == table | {"study.html"} | pictures(*drawn)
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    missing = set(SINGLE) - set(drawn)
    assert {name for name in SINGLE if f"study_{name}.png is left out: " in caplog.text} == missing
    assert {name for name in SINGLE if f"<p>{name} is left out: " in page} == missing
    for reason in reasons:
        assert reason in caplog.text and reason in page


def test_a_study_with_a_value_that_is_no_number(tmp_path):
    """Optuna fails such trials, but a database may hold one."""
    study = study_of([1.0, 2.0, 3.0])
    trial = create_trial(value=0.0, params={"x": 0.9, "kind": "ae"}, distributions=SPACE)
    trial.values = [NAN]
    study._storage.create_new_trial(study._study_id, template_trial=trial)
    assert math.isnan(study.trials[-1].value)
    assert pictures(*SINGLE) <= names(write_report(study, tmp_path))


def test_infinite_values_of_one_objective(tmp_path):
    study = study_of([(1.0, INF), (2.0, INF)], directions=["minimize", "minimize"])
    assert names(write_report(study, tmp_path)) - {"study_trials.csv", "study.html"} == pictures(*(f"{p}_0" for p in SINGLE))


def test_a_new_report_replaces_the_old_one(tmp_path):
    write_report(study_of([1.0, 2.0]), tmp_path)
    paths = write_report(study_of([5.0]), tmp_path)
    assert set(paths) == set(tmp_path.iterdir())
    assert pd.read_csv(tmp_path / "study_trials.csv")["value"].tolist() == [5]


def test_a_broken_write_leaves_the_old_report(tmp_path, monkeypatch):
    write_report(study_of([1.0, 2.0]), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(self, path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_report(study_of([5.0]), tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(plt.Figure, "savefig", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_report(study_of([1.0, 2.0]), tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[path] == before[path] for path in before if path.suffix == ".png")


def test_the_figures_of_others_keep_their_style(tmp_path):
    with plt.style.context("classic"):
        before = dict(plt.rcParams)
        write_report(study_of([1.0, 2.0]), tmp_path)
        assert dict(plt.rcParams) == before and plt.get_fignums() == []


def test_without_plotly_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.visualization, "is_available", lambda: False)
    with pytest.raises(ImportError, match="the report needs plotly, which is not installed: pip install plotly"):
        write_report(study_of([1.0]), tmp_path)
    assert os.listdir(tmp_path) == []
    assert names(write_report(study_of([1.0]), tmp_path, plots=False)) == {"study_trials.csv"} == set(os.listdir(tmp_path))


def test_scikit_learn_is_not_needed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert pictures("importances") <= names(write_report(study_of([1.0, 2.0, 3.0]), tmp_path))
