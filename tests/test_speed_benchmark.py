"""How fast it is: every preset has a row, what is counted is right, and what falls short or got slower is named."""

import ast
import itertools
import json
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch as th
from PIL import Image
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks import documents
from benchmarks.learn.pictures import fingerprint_of
from benchmarks.sac import RandomImageEnv
from benchmarks.speed import command, compare, limits, meters, paths, pictures, rows, scaling, tables, worlds
from sb3_latent import latent_kwargs, list_presets, recipes

ROOT = Path(__file__).parents[1]

MODEL_ROW = {
    "ms_per_gradient_step": 2.0,
    "ms_to_act": 1.0,
    "encodings_per_sample": {"with_gradients": 1.0, "without": 0.5},
    "flops_per_gradient_step": 3e9,
    "share_of_attainable": 0.25,
    "peak_mb": 400.0,
}


def row_of(name, base, **ratios):
    return {
        "name": name,
        "world": "W",
        "base": base,
        "ratios": {"update": 1.0, "acting": 1.0, "memory": 1.0} | ratios,
        **MODEL_ROW,
    }


def planted(**curves):
    """A whole result in which every limit holds, but for what is said."""
    figures = {
        name: 0.9 * limit.at_most if math.isinf(limit.at_least) else 0.5 * (limit.at_least + limit.at_most)
        for name, limit in limits.LIMITS.items()
    } | curves
    found = {
        "rows": [row_of("stock", "stock")],
        "paths": [row_of("plain", "plain")],
        "scaling": {},
        "minutes": figures["minutes"],
    }
    for name, value in figures.items():
        owner, _, what = name.partition(": ")
        if name.startswith("slope over "):
            curve = {"text": "an update", "size": "things", "unit": "ms", "sizes": [1, 10], "costs": [1.0, 10.0**value]}
            found["scaling"][name.removeprefix("slope over ")] = curve | {"slope": value}
        elif what:
            part = "rows" if owner in list_presets() else "paths"
            found[part].append(row_of(owner, found[part][0]["name"], **{what: value}))
    found["scaling"]["memory"]["per_transition_over_stated"] = figures["bytes of a transition / stated"]
    return found


def whole(results, **machine):
    about = {"processor": "P", "n_cores": 2, "n_threads": 2, "device": "cpu", "versions": {"torch": "2"}, "commit": "abc"}
    return {"command": "python -m benchmarks speed", "machine": about | machine, "results": results}


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["python -m benchmarks speed", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        command.main()
    return stop.value.code


def test_every_preset_has_a_row_beside_plain_sb3():
    made = [name for world in worlds.preset_worlds(list_presets()) for name in list(world.makers)[1:]]
    assert sorted(made) == list_presets()
    assert all(world.base.startswith("stock ") for world in worlds.preset_worlds(list_presets()))


@pytest.mark.parametrize(
    ("registry", "like", "family"),
    [
        ("PRESETS", "vae", "ppo"),
        ("PRESETS", "sac_ae", "sac"),
        ("WINDOW_PRESETS", "slac", "windows"),
        ("PRESETS", "sac_state", "states"),
    ],
)
def test_a_new_preset_is_measured_without_new_code(monkeypatch, registry, like, family):
    monkeypatch.setitem(getattr(recipes, registry), "new", getattr(recipes, registry)[like])
    if like in recipes.SAC_PRESETS:
        monkeypatch.setitem(recipes.SAC_PRESETS, "new", recipes.SAC_PRESETS[like])
    assert worlds.family_of("new") == family
    assert any("new" in world.makers for world in worlds.preset_worlds(list_presets()))


def small_ppo(policy_kwargs, batch_size=8):
    env = DummyVecEnv([partial(RandomImageEnv, (1, 36, 36))] * 4)
    return worlds.make_ppo(policy_kwargs, env, batch_size)


def small_world():
    vae = latent_kwargs("vae", trunk="nature", latent_dim=4)
    makers = {"stock": partial(small_ppo, {}), "vae": partial(small_ppo, vae)}
    return worlds.World("small", makers, 8)


def in_this_process(peak_of):
    return lambda function, *args: function(*args) if function is rows.timed else peak_of(*args)


def test_a_world_is_measured(monkeypatch):
    monkeypatch.setattr(meters, "N", 64)
    world = small_world()
    peaks = {id(world.makers["stock"]): 1000, id(world.makers["vae"]): 3000}
    monkeypatch.setattr(rows, "in_a_fresh_process", in_this_process(lambda make, world: peaks[id(make)]))
    base, row = rows.measure(world, 2)
    assert [base["name"], row["name"]] == ["stock", "vae"] and base["base"] == row["base"] == "stock"
    assert base["ratios"] == {"update": 1, "acting": 1, "memory": 1} and row["ratios"]["memory"] == 3
    assert row["ratios"]["update"] > 1 and row["flops_per_gradient_step"] > 1.5 * base["flops_per_gradient_step"] > 0
    # One pass of each sample, and the decoder has no convolution that would be taken for the encoder's first.
    assert base["encodings_per_sample"] == row["encodings_per_sample"] == {"with_gradients": 1, "without": 0}
    assert 0 < row["share_of_attainable"] and row["ms_per_gradient_step"] > 0


def test_peak_memory_is_that_of_one_process():
    held = np.ones(50_000_000)  # What this process has held is none of the other's business.
    peak = meters.in_a_fresh_process(rows.peak_of, partial(small_ppo, {}), small_world())
    here = meters.peak_memory()
    assert 100e6 < peak < here - 0.5 * held.nbytes


def test_arithmetic_is_that_of_the_formula():
    layer, x = th.nn.Linear(30, 20), th.rand(7, 30)
    assert meters.flops(lambda: layer(x)) == 2 * 7 * 30 * 20
    # The weights' gradients once more; the input asks for none.
    assert meters.flops(lambda: layer(x).sum().backward()) == 2 * 2 * 7 * 30 * 20
    assert meters.flops(meters.matrix_product()) == 2 * meters.N**3


@pytest.mark.parametrize("exponent", [-0.5, 0, 1, 1.7])
def test_the_slope_of_a_planted_curve_is_found(exponent):
    sizes = [3, 10, 40, 200]
    assert scaling.slope(sizes, [5 * n**exponent for n in sizes]) == pytest.approx(exponent)


def test_curves_are_measured(monkeypatch):
    monkeypatch.setattr(scaling, "interleaved", lambda tasks, n_rounds, what: {name: [int(name) / 500] for name in tasks})
    curve = scaling.Curve("it", "things", (2, 8, 32), lambda n: lambda: None)
    found = scaling.measure_time(curve, 1)
    assert found["slope"] == pytest.approx(1) and found["costs"] == [4, 16, 64] and found["sizes"] == [2, 8, 32]
    stated = scaling.STATED_BYTES
    resident = {"resident_bytes_before": 1000}
    monkeypatch.setattr(
        scaling, "in_a_fresh_process", lambda function, name, n: resident | {"resident_bytes_after": 1000 + n * 1.2 * stated}
    )
    assert scaling.measure_memory()["per_transition_over_stated"] == pytest.approx(1.2)
    assert scaling.measure_memory()["slope"] == pytest.approx(1)


def test_tasks_of_the_curves_run():
    scaling.update_task("vae", size=36, n_frames=2, batch_size=8, latent_dim=2, trunk="nature")()
    scaling.sampling_task(130)()
    scaling.acting_task(1)()


def test_fast_paths_that_are_no_model_say_what_they_stand_beside(monkeypatch):
    monkeypatch.setattr(paths.acting, "measure", lambda n_envs, n_rounds: {"ratio": 0.3})
    monkeypatch.setattr(
        paths.slac, "measure", lambda n_rounds: {"ratios": {f"update of {paths.slac.OURS} / {paths.slac.PLAIN}": 0.5}}
    )
    figures = {"sample of frames once / SB3": 0.6, "add of frames once / SB3": 3.0, "memory of SB3 / frames once": 5.0}
    monkeypatch.setattr(paths.memory, "measure", lambda *sizes: (figures, {}))
    monkeypatch.setattr(paths.fast_atari, "measure", lambda game, n_rounds: {"ratio": 1.6})
    monkeypatch.setattr(command, "WORLDS", ())
    found = limits.figures({"paths": command.measure_paths(1)})
    assert found["FrameReplayBuffer: memory"] == 0.2 and found["FastAtariVecEnv, Pong: environment step"] == 1 / 1.6
    models = {f"{name}: update" for name in ("sac_ae", paths.CHUNKED, paths.CACHED)}
    assert {name for name in limits.LIMITS if ": " in name} - models <= set(found)


def test_figures_with_limits_are_those_of_rows_that_there_are():
    made = {name for world in (*worlds.preset_worlds(list_presets()), *paths.WORLDS) for name in world.makers}
    owners = {name.partition(": ")[0] for name in limits.LIMITS if name.endswith(": update")}
    assert owners - {paths.slac.OURS} <= made
    assert {name.removeprefix("slope over ") for name in limits.LIMITS if "slope" in name} == {*scaling.CURVES, "memory"}


def rollouts(preset, n_epochs, **settings):
    """A small agent whose encoder reads single frames."""
    small = {"trunk": "nature", "latent_dim": 4, "per_frame": True, "frozen": preset == "ppo_fixed"}
    env = worlds.stacks(1, 4, 36, n_envs=4)
    return worlds.make_ppo(latent_kwargs("vae", **small), env, 4 * 32, batch_size=32, n_epochs=n_epochs, **settings)


def test_chunks_encode_fewer_frames_and_cached_latents_each_frame_once(monkeypatch):
    monkeypatch.setattr(meters, "N", 64)
    monkeypatch.setattr(rows, "in_a_fresh_process", in_this_process(lambda *arguments: 1))
    for world, most in zip(paths.WORLDS[:2], (0.4, 0.1), strict=True):
        epochs = next(iter(world.makers.values())).args[1]
        first_two = itertools.islice(world.makers.items(), 2)
        makers = {name: partial(rollouts, *maker.args, **maker.keywords) for name, maker in first_two}
        small = worlds.World("small", makers, 32, 4 * epochs)
        plain, fast = (sum(row["encodings_per_sample"].values()) for row in rows.measure(small, 1))
        assert plain == 4 and fast < most * plain


@pytest.mark.parametrize("name", limits.LIMITS)
def test_the_check_names_what_falls_short_and_exits_with_1(monkeypatch, capsys, name):
    monkeypatch.setattr(command, "save", lambda *arguments: None)
    monkeypatch.setattr(command, "write_json", lambda *arguments: None)
    results = {"good": planted(), "bad": planted(**{name: limits.LIMITS[name].at_most + 0.01})}
    for kind, code in {"good": 0, "bad": 1}.items():
        monkeypatch.setattr(command, "measure_all", lambda *arguments, kind=kind: results[kind])
        assert run_main(monkeypatch, "--check") == code
        assert (f"falls short: {name} is" in capsys.readouterr().out) == (kind == "bad")
    assert run_main(monkeypatch) == 0


def test_a_figure_that_was_not_measured_falls_short_of_a_whole_run_alone():
    results = planted()
    del results["scaling"]["batch"]
    assert limits.shortcomings(results, True) == [
        "falls short: slope over batch is not measured; at most 1.1 (proportional at most, but for noise)"
    ]
    assert limits.shortcomings(results, False) == []
    assert limits.shortcomings(planted(**{"slope over replay": -0.3}), False) == [
        "falls short: slope over replay is -0.3; at least -0.1, at most 0.1 (sampling does not search)"
    ]


def test_parts_are_measured_alone_and_written_only_where_asked(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "measure", lambda world, n_rounds: [row_of(name, world.base) for name in world.makers])
    monkeypatch.setattr(command, "OUT", tmp_path / "speed.json")
    assert run_main(monkeypatch, "--only", "rows", "--presets", "vae", "slac", "--check") == 0
    out = capsys.readouterr().out
    assert "`vae`" in out and "`slac`" in out and "`ae`" not in out and not list(tmp_path.iterdir())
    run_main(monkeypatch, "--only", "rows", "--presets", "vae", "--out", tmp_path / "part.json")
    assert compare.read(tmp_path / "part.json")["results"]["rows"][1]["name"] == "vae"
    with Image.open(tmp_path / "part.png") as picture:
        assert picture.width > 500
    assert run_main(monkeypatch, "--presets", "vea") == 2 and "'vea'" in capsys.readouterr().err


def test_what_falls_short_says_how_fast_it_is():
    (line,) = limits.shortcomings(planted(**{"FastAtariVecEnv: environment step": 1 / 1.55}), True)
    assert "is 0.645 (1.55 times as fast); at most 0.5" in line


def write(path, found):
    path.write_text(json.dumps(found))
    return path


def test_a_comparison_flags_what_got_slower(monkeypatch, tmp_path, capsys):
    name = "sac_ae: update"
    old = write(tmp_path / "old.json", whole(planted(**{name: 0.5})))
    slow = write(tmp_path / "slow.json", whole(planted(**{name: 0.6}), processor="Q"))
    assert run_main(monkeypatch, "--compare", old, old) == 0 and "other machine" not in capsys.readouterr().out
    assert run_main(monkeypatch, "--compare", old, slow) == 1
    out = capsys.readouterr().out
    assert f"| {name} | 0.500 | 0.600 | 1.20 | slower |" in out and out.endswith(f"slower: {name}\n")
    assert "processor: P -> Q" in out and "commit" not in out
    assert run_main(monkeypatch, "--compare", old, slow, "--tolerance", "0.3") == 0
    assert run_main(monkeypatch, "--compare", slow, old) == 0
    part = planted()
    del part["rows"]
    assert run_main(monkeypatch, "--compare", old, write(tmp_path / "part.json", whole(part))) == 0
    assert f"| {name} | 0.500 | not measured |" in capsys.readouterr().out
    del part["paths"]
    assert "no ratio in common" in run_main(monkeypatch, "--compare", old, write(tmp_path / "part.json", whole(part)))


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"results": {}, "machine": {}}', '{"results": [{}], "machine": {"processor": ""}}']
)
def test_a_file_that_is_no_result_is_refused_in_one_line(monkeypatch, tmp_path, text):
    good, bad = write(tmp_path / "good.json", whole(planted())), tmp_path / "bad.json"
    if text is not None:
        bad.write_text(text)
    message = run_main(monkeypatch, "--compare", good, bad)
    assert message.startswith(f"error: {bad} is no result of") and "\n" not in message


def test_documents_and_pictures_follow_the_results(monkeypatch, tmp_path):
    document, out = tmp_path / "speed.md", tmp_path / "speed.json"
    document.write_text((ROOT / "docs/speed.md").read_text())
    write(out, whole(planted(**{"slope over latent": 0.77})))
    monkeypatch.setattr(command, "DOCUMENT", document)
    assert run_main(monkeypatch, "--tables", "--out", out) == 0
    text = document.read_text()
    assert "| slope over latent | 0.77 | at most 0.3 | two layers of many have it | **falls short** |" in text
    assert "| `sac_ae` | 0.72 | 2.0 | 1.00 | 1.00 | 1 / 0.5 | 1.00 | 400 | 3.00 | 25% |" in text
    assert fingerprint_of(tmp_path / "speed.png") == command.fingerprint(compare.read(out)["results"])
    assert documents.with_blocks(text, tables.blocks(compare.read(out)), document) == text
    part = planted()
    del part["scaling"]
    assert "lack ['scaling']" in run_main(monkeypatch, "--tables", "--out", write(out, whole(part)))
    write(out, whole(planted()))
    with pytest.raises(ValueError, match="needs one block '<!-- speed facts -->'"):
        documents.with_blocks("", tables.blocks(compare.read(out)), document)


def test_the_documents_are_up_to_date():
    path, text = ROOT / "benchmarks/results/speed.json", (ROOT / "docs/speed.md").read_text()
    found = compare.read(path)
    assert documents.with_blocks(text, tables.blocks(found), "docs/speed.md") == text, (
        "run python -m benchmarks speed --tables"
    )
    assert fingerprint_of(path.with_suffix(".png")) == command.fingerprint(found["results"])


def test_benchmarks_of_speed_keep_to_the_public_interface():
    names = ("acting", "cost", "fast_atari", "memory", "sac", "slac")
    files = [*(ROOT / f"benchmarks/{name}.py" for name in names), *(ROOT / "benchmarks/speed").glob("*.py")]
    used = {node.attr for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    assert [name for name in used if name.startswith("_") and not name.endswith("__")] == []


def test_the_picture_shows_every_row_and_curve():
    figure = pictures.picture(planted())
    labels = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert "sac_ae" in labels and f"{paths.CACHED}: update" in labels
    assert len(figure.axes) == 4 + len(scaling.CURVES) + 1
