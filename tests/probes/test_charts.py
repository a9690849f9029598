"""The bars are the scores."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from sb3_latent.probes import Report, Score, probe_bars


def score(variable, source, probe, metric, value, low=None, high=None):
    low, high = (value - 0.1 if low is None else low), (value + 0.1 if high is None else high)
    return Score(variable, source, probe, metric, value, low, high)


def report(probes=("linear", "mlp")):
    scores = []
    for variable, metric, value, random in (("ball", "r2", 0.05, 0.3), ("paddle", "r2", 0.9, 0.5), ("lives", "f1", 0.6, -7.0)):
        for i, probe in enumerate(probes):
            scores += [
                score(variable, "model", probe, metric, value + 0.1 * i),
                score(variable, "random", probe, metric, random),
                score(variable, "pca", probe, metric, 0.4),
            ]
        scores.append(score(variable, "constant", "none", metric, 0.0))
    return Report(scores, {}, [], {}, {}, 4)


def test_what_is_lost_is_not_called_idle_as_well():
    assert report().verdict() == (
        "A linear probe reads paddle, lives off the representation. At the floor, no better than a constant guess: ball."
    )


@pytest.fixture
def drawn(monkeypatch):
    calls = {name: [] for name in ("barh", "hlines", "plot", "set_yticks", "set_xlim")}
    originals = {name: getattr(Axes, name) for name in calls}

    def spy(name):
        def call(axes, *args, **kwargs):
            result = originals[name](axes, *args, **kwargs)
            calls[name].append((args, kwargs, result))
            return result

        return call

    for name in calls:
        monkeypatch.setattr(Axes, name, spy(name))
    return calls


def test_bars_intervals_and_floors_stand_where_the_scores_are(drawn, tmp_path):
    picture = probe_bars(report(), tmp_path / "bars.png", title="What it holds")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "bars.png")), picture)
    assert drawn["set_yticks"][0][0][1] == ["ball (R²)", "paddle (R²)", "lives (F1)"]
    for i, ((rows, values, thickness), _, bars) in enumerate(drawn["barh"]):
        np.testing.assert_allclose(values, np.array([0.05, 0.9, 0.6]) + 0.1 * i)
        np.testing.assert_allclose(np.abs(rows - np.arange(3)), 0.2)
        assert thickness < 0.4
        # The interval of ball begins below zero, where a constant guess is; that of the MLP does not.
        assert [bool(bar.get_hatch()) for bar in bars] == [i == 0, False, False]
        (line_rows, lows, highs), _, _ = drawn["hlines"][i]
        np.testing.assert_array_equal(line_rows, rows)
        np.testing.assert_allclose([lows, highs], [np.array(values) - 0.1, np.array(values) + 0.1])
    assert (drawn["barh"][0][0][0] != drawn["barh"][1][0][0]).all()
    floors = {kwargs["label"]: args[0] for args, kwargs, _ in drawn["plot"]}
    assert floors == {
        "floor: fresh weights": [0.3, 0.5, -7.0],
        "floor: pixels through PCA": [0.4] * 3,
        "floor: constant guess": [0.0] * 3,
    }
    markers = [args[2] for args, _, _ in drawn["plot"]]
    assert len(set(markers)) == 3
    # An R^2 of -7 would squeeze all others.
    low, high = next(args for args, _, _ in drawn["set_xlim"] if len(args) == 2)
    assert low == pytest.approx(-0.27) and high > 1


def test_one_probe_has_one_bar_and_a_missing_floor_no_mark(drawn):
    full = report(("linear",))
    without = Report([one for one in full.scores if one.source != "random"], {}, [], {}, {}, 4)
    small, large = probe_bars(without), probe_bars(report())
    assert len(drawn["barh"]) == 3
    assert "floor: fresh weights" not in {kwargs["label"] for _, kwargs, _ in drawn["plot"][:2]}
    assert small.shape[0] < large.shape[0] and small.shape[1] == large.shape[1]


def test_the_legend_shows_whole_bars_where_all_that_is_drawn_is_hatched(monkeypatch):
    legends = []
    legend = Figure.legend
    monkeypatch.setattr(Figure, "legend", lambda *args, **kwargs: legends.append(args[1:3]) or legend(*args, **kwargs))
    probe_bars(report())
    ((handles, labels),) = legends
    by_label = dict(zip(labels, handles, strict=True))
    assert [
        bool(by_label[label].get_hatch()) for label in ("at the floor of a constant guess", "linear probe", "MLP probe")
    ] == [
        True,
        False,
        False,
    ]
