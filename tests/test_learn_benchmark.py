"""The evidence: runs that survive every kill, results that survive every writer, documents that say what the results say."""

import itertools
import os
import shutil
import signal
import sys
import time
import traceback
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from filelock import FileLock
from rliable import library, metrics
from scipy.stats import trim_mean

from benchmarks import suites
from benchmarks.learn import aggregate, command, pictures, results, runs, tables, training
from sb3_latent.envs import FastAtariVecEnv
from sb3_latent.evaluation import evaluating
from sb3_latent.resume import list_checkpoints

ROOT = Path(__file__).parents[1]

TINY_BALL, PENDULUM = "sb3_latent/TinyBall-v0", "sb3_latent/PixelPendulum-v0"
SMALL_PPO = {
    "n_envs": 4,
    "n_steps": 16,
    "batch_size": 32,
    "n_epochs": 1,
    "learning_rate": "lin_1e-3",
    "policy_kwargs.trunk_kwargs": {"channels": [4, 4], "hidden_dim": 16},
    "callback": [
        {"sb3_latent.callbacks.EncoderPretrainCallback": {"n_frames": 32, "n_epochs": 1, "progress_bar": False}},
        {"sb3_latent.callbacks.LatentMetricsCallback": {"every": 64}},
    ],
}
SMALL_SAC = {
    "buffer_size": 100,
    "learning_starts": 4,
    "batch_size": 2,
    "policy_kwargs.net_arch": [8],
    "policy_kwargs.latent_dim": 4,
    "policy_kwargs.trunk": "mlp",
    "policy_kwargs.trunk_kwargs": {"net_arch": [8]},
    "callback": [{"sb3_latent.callbacks.CatchUpCallback": {"n_updates": 4, "progress_bar": False}}],
}


def small_suite(preset, task, n_steps, slice_steps):
    return suites.Suite(
        title="small",
        presets={"it": preset},
        tasks=(task,),
        n_steps=n_steps,
        slice_steps=slice_steps,
        budgets=(n_steps,),
        figures={"all": ("it",)},
        bounds=(-5.0, 5.0),
        n_eval_episodes=2,
    )


SMALL = {
    # kappa="auto" is a state of the extractor, its own optimizer one of the tasks.
    "ppo": small_suite(
        suites.Preset("ppo_vae", {**SMALL_PPO, "policy_kwargs.gradient_mode": "own_optimizer", "policy_kwargs.kappa": "auto"}),
        TINY_BALL,
        # Neither a slice nor the run ends with a rollout of 64 steps.
        320,
        100,
    ),
    "sac": small_suite(suites.Preset("sac_cnn", SMALL_SAC), PENDULUM, 12, 6),
}
SMALL_BREAKOUT = {**SMALL_PPO, "n_envs": 2, "n_steps": 64, "policy_kwargs.latent_dim": 4}
SMALL_ATARI = {
    name: small_suite(replace(preset, overrides={**preset.overrides, **own}), "BreakoutNoFrameskip-v4", 128, 128)
    for name, preset, own in (
        ("cnn", suites.ATARI.presets["cnn"], {"n_envs": 2, "n_steps": 64, "batch_size": 32, "n_epochs": 1}),
        ("fixed", suites.ATARI.presets["ppo_fixed"], SMALL_BREAKOUT),
        ("vae", suites.ATARI.presets["ppo_vae-kappa1"], SMALL_BREAKOUT),
    )
}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(gym.registry[PENDULUM], "max_episode_steps", 6)
    for name, suite in (SMALL | SMALL_ATARI).items():
        monkeypatch.setitem(suites.SUITES, name, suite)


def learn(suite, folder, *arguments):
    """The command, in this process."""
    given = ["--suite", suite, "--seeds", "3", "--out", str(folder / "out"), "--work", str(folder / "work"), *arguments]
    before, sys.argv = sys.argv, ["python -m benchmarks learn", *given, "--device", "cpu"]
    try:
        with pytest.raises(SystemExit) as stop:
            command.main()
        return stop.value.code
    finally:
        sys.argv = before


def in_a_child(function):
    """:return: how a forked process ends that calls a function."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = function()
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return os.waitpid(pid, 0)[1]


def dying_at(n, function):
    """:return: a function that kills its process at the n-th event: what is done to files, and the starts of rollouts."""

    def count(original):
        def counted(*args, **kwargs):
            if next(counter) == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return counted

    def call():
        os.replace, os.rename, os.fsync, shutil.rmtree = map(count, (os.replace, os.rename, os.fsync, shutil.rmtree))
        training.Slice._on_rollout_start = count(training.Slice._on_rollout_start)
        return function()

    counter = itertools.count(1)
    return call


def sum_of_weights(run, folder, device):
    weights = training._agent(run, list_checkpoints(folder)[-1], device).policy.parameters()
    return {"weights": sum(float(weight.detach().double().abs().sum()) for weight in weights)}


def outcome(folder, suite):
    """All that a run measured but for the clock."""
    (row,) = results.read(results.path_of(suite, folder / "out"))
    for point in row["curve"]:
        assert point.pop("seconds") >= 0
    return row["curve"], row["weights"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("suite", "n_points", "stride"), [("ppo", 3, 3), ("sac", 2, 1)])
def test_a_run_killed_everywhere_is_the_run_that_was_not(tmp_path, monkeypatch, suite, n_points, stride):
    monkeypatch.setattr(training, "_probe", sum_of_weights)
    assert learn(suite, tmp_path / "whole") == 0
    curve, weights = outcome(tmp_path / "whole", suite)
    assert len(curve) == n_points
    n, n_kills, newest = 1, 0, []
    while (status := in_a_child(dying_at(n, lambda: learn(suite, tmp_path / "killed")))) != 0:
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        # From each checkpoint on, it dies at one event after the other, until one comes after the next checkpoint.
        before, newest = newest, sorted((tmp_path / "killed/work").glob("*/*/checkpoint_*"))[-1:]
        n, n_kills = (n + stride if newest == before else 1), n_kills + 1
    assert n_kills > 10
    assert outcome(tmp_path / "killed", suite) == (curve, weights)
    assert [path.suffix for path in (tmp_path / "killed/work" / suite).iterdir() if path.name != "encoders"] == [".lock"]


@pytest.mark.usefixtures("small")
def test_slices_are_parts_of_one_run_and_done_once(tmp_path, monkeypatch, capsys):
    seen = []
    original = training.Slice._save

    def save(self):
        seen.append((self.num_timesteps, self.model._current_progress_remaining))
        original(self)

    monkeypatch.setattr(training.Slice, "_save", save)
    assert learn("ppo", tmp_path, "--max-minutes", "0") == 0 and not seen
    assert "not run: python -m benchmarks learn --suite ppo --preset it --seeds 3" in capsys.readouterr().out
    assert learn("ppo", tmp_path) == 0
    assert "done: seeds 3" in capsys.readouterr().out
    # A slice ends with the first rollout of 64 steps from a multiple of 100 on; its schedules go by the whole run.
    assert seen == [(n, pytest.approx(1 - n / 320)) for n in (128, 256, 320)]
    file = results.path_of("ppo", tmp_path / "out")
    (row,), text = results.read(file), file.read_text()
    assert [point["steps"] for point in row["curve"]] == [128, 256, 320]
    assert row["hyperparams"]["learning_rate"] == "lin_1e-3" and row["machine"]["commit"]
    assert row["command"] == runs.command_for("ppo", "it", TINY_BALL, [3], 320)
    assert learn("ppo", tmp_path) == 0 and len(seen) == 3 and file.read_text() == text
    monkeypatch.setitem(suites.SUITES["ppo"].presets["it"].overrides, "gamma", 0.5)
    assert learn("ppo", tmp_path, "--list") == 0
    assert "of other hyperparameters: seeds 3" in capsys.readouterr().out


@pytest.mark.usefixtures("small")
def test_a_run_belongs_to_one_process(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "PATIENCE", 0)
    (run,) = runs.runs_of("ppo", None, None, [3], None)
    folder = run.folder(tmp_path / "work")
    folder.parent.mkdir(parents=True)
    with FileLock(f"{folder}.lock"):
        learn("ppo", tmp_path)
    assert "another process is at it" in capsys.readouterr().out
    assert not results.path_of("ppo", tmp_path / "out").exists()


@pytest.mark.usefixtures("small")
def test_a_run_that_fails_is_named_and_stops_no_other(tmp_path, monkeypatch, capsys):
    def train(run, *_):
        if run.seed == 1:
            raise FloatingPointError("loss is nan")
        return {"curve": [{"steps": 320, "return": 1.0, "seconds": 1.0}]}

    monkeypatch.setattr(command, "train", train)
    assert learn("ppo", tmp_path, "--seeds", "1", "2") == 1
    printed = capsys.readouterr()
    assert "loss is nan" in printed.err and "done: seeds 2; not run" in printed.out


def _append_ten(path, first):
    for seed in range(first, first + 10):
        results.append(path, {"preset": "it", "task": "t", "seed": seed, "n_steps": 1})


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / "learn_x.json"
    # Seeds 10 to 19 are written by two of them.
    processes = [get_context("fork").Process(target=_append_ten, args=(path, first)) for first in (0, 10, 10, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(row["seed"] for row in results.read(path)) == list(range(30))


def test_workers_end_with_the_command_that_was_killed(tmp_path):
    file = tmp_path / "worker"

    def worker(parent):
        command.die_with(parent)
        file.write_text(str(os.getpid()))
        time.sleep(60)

    def parent():
        own = os.getpid()
        if os.fork() == 0:
            worker(own)
        while not file.exists() or not file.read_text():
            time.sleep(0.01)
        os.kill(own, signal.SIGKILL)

    assert os.WTERMSIG(in_a_child(parent)) == signal.SIGKILL
    pid = int(file.read_text())
    deadline = time.time() + 5
    while time.time() < deadline and _is_running(pid):
        time.sleep(0.05)
    assert not _is_running(pid)


def _is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("suite", SMALL_ATARI)
@pytest.mark.usefixtures("small")
def test_runs_of_atari_take_the_fast_paths(tmp_path, monkeypatch, suite):
    envs = []
    init = FastAtariVecEnv.__init__
    monkeypatch.setattr(
        FastAtariVecEnv, "__init__", lambda self, *args, **kwargs: envs.append(self) or init(self, *args, **kwargs)
    )
    assert learn(suite, tmp_path) == 0
    assert len(envs) >= 2, "to train and to evaluate in"
    (row,) = results.read(results.path_of(suite, tmp_path / "out"))
    assert ("rollout_buffer_class" in row["hyperparams"]) == (suite != "cnn")


def test_suites_fit_the_zoo_and_the_published_figures():
    for name, suite in suites.SUITES.items():
        for run in runs.runs_of(name, None, None, [0], None):
            assert run.hyperparams["policy"] and run.n_steps % run.action_repeat == 0
            assert run.suite.slice_steps % run.action_repeat == 0
        # Every budget is evaluated, and in the Control Suite whole episodes of 1000 steps.
        assert name == "ppo" or all(budget % suite.slice_steps == 0 for budget in suite.budgets)
        assert name != "dmc" or suite.slice_steps % 1000 == 0
        assert suite.n_steps == max(suite.budgets)
        assert {preset for presets in suite.figures.values() for preset in presets} == set(suite.presets)
        for preset, task, budget in suite.published:
            assert preset in suite.sources and task in suite.tasks and budget in suite.budgets
    assert len(suites.DMC.published) == 5 * 6 * 2
    assert len(suites.TINY.presets) == 3 + 3 * 2 * 2 + 2 + 3 + 4
    by_task = {run.task: run for run in runs.runs_of("dmc", ["slac"], None, [0], None)}
    assert by_task["finger-spin"].action_repeat == 1 and by_task["cartpole-swingup"].action_repeat == 4


def test_hyperparameters_are_those_of_the_zoo_but_for_the_overrides(tmp_path):
    (run,) = runs.runs_of("tiny", ["ppo_vae-mean-own_optimizer-kappa10"], None, [2], None)
    policy = run.hyperparams["policy_kwargs"]
    assert policy["kappa"] == 10 and policy["gradient_mode"] == "own_optimizer"
    assert policy["coefs"] == {"recon": 1 / 1296, "kl": 1 / 1296} and policy["latent_dim"] == 10
    assert run.hyperparams["learning_rate"] == 0.001 and run.hyperparams["n_envs"] == 16
    # An encoder of its own for each seed, one for both presets that read it.
    paths = {}
    for one in runs.runs_of("tiny", ["ppo_fixed", "ppo_adapt"], None, [0, 1], None):
        (entry,) = (part for part in one.training_hyperparams(tmp_path)["callback"] if runs._PRETRAINING in part)
        paths[one.preset, one.seed] = entry[runs._PRETRAINING]["path"]
        assert entry[runs._PRETRAINING]["seed"] == one.seed and "path" not in str(one.hyperparams)
    assert paths["ppo_fixed", 0] == paths["ppo_adapt", 0] != paths["ppo_fixed", 1] == paths["ppo_adapt", 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "ppo_vea-*"], "preset of suite 'ppo'"),
        (["--task", "Pong"], "task of suite"),
        (["--jobs", "0"], "--jobs 0"),
    ],
)
@pytest.mark.usefixtures("small")
def test_wrong_arguments_are_named(tmp_path, capsys, arguments, words):
    assert learn("ppo", tmp_path, *arguments) == 2
    assert words in capsys.readouterr().err


def row_of(preset, seed, points, suite=suites.DMC, task="finger-spin", n_steps=None):
    curve = [{"steps": steps, "return": value, "training_return": None, "seconds": 360.0} for steps, value in points]
    machine = {"processor": "P", "device": "cpu", "versions": {"torch": "2"}, "commit": "abc"}
    r2 = {"r2": dict.fromkeys(suite.probed, 0.25)} if suite.probed else {}
    n_steps = n_steps or suite.n_steps
    return {"preset": preset, "task": task, "seed": seed, "n_steps": n_steps, "curve": curve, "machine": machine, **r2}


def test_tables_say_what_the_rows_say():
    values = [100.0, 200.0, 300.0, 400.0, 900.0]
    rows = [row_of("drq", seed, [(100_000, value), (500_000, 2 * value)]) for seed, value in enumerate(values)]
    rows += [row_of("curl", 0, [(100_000, 7.0)], n_steps=100_000)]
    lines = {tuple(line.split(" | ")[:2]): line for line in tables.return_table("dmc", rows).splitlines()}
    drq, curl = lines["| finger-spin", "drq"].split(" | "), lines["| finger-spin", "curl"].split(" | ")
    mean = trim_mean(values, 0.25)
    assert drq[2].startswith(f"**{mean:.3g}** (") and drq[2].endswith("5 seeds)") and drq[3] == "901±105"
    assert drq[4].startswith(f"**{2 * mean:.3g}** (")
    assert curl[2] == "**7** (1 seed)"
    assert curl[4] == "not run: `python -m benchmarks learn --suite dmc --preset curl --task finger-spin`"


def test_runs_with_schedules_count_for_their_own_budget_alone():
    rows = [row_of("cnn", 0, [(2_000_000, 5.0), (10_000_000, 9.0)], suites.ATARI, "BreakoutNoFrameskip-v4")]
    chosen = [aggregate.returns_at(rows, suites.ATARI, "cnn", rows[0]["task"], budget) for budget in suites.ATARI.budgets]
    assert chosen == [{}, {0: 9.0}]
    dmc = [row_of("drq", 0, [(100_000, 5.0), (500_000, 9.0)])]
    assert [aggregate.returns_at(dmc, suites.DMC, "drq", "finger-spin", budget) for budget in suites.DMC.budgets] == [
        {0: 5.0},
        {0: 9.0},
    ]


def test_intervals_are_rliables(monkeypatch):
    monkeypatch.setattr(aggregate, "N_RESAMPLES", 300)
    rng = np.random.default_rng(0)
    samples = [list(rng.normal(size=5)) for _ in range(3)] + [[2.0]] + [list(rng.normal(size=20))]
    found = aggregate.intervals(samples)
    assert found[3][0] == 2 and np.isnan(found[3][1:]).all()
    with evaluating(None, 0):

        def iqm(matrix):
            return np.array([metrics.aggregate_iqm(matrix)])

        matrix = np.array(samples[4])[:, None]
        means, ends = library.get_interval_estimates({"": matrix}, iqm, reps=300)
    assert found[4] == pytest.approx((means[""][0], *ends[""][:, 0]))
    for (mean, low, high), sample in zip(found[:3], samples, strict=False):
        assert mean == pytest.approx(trim_mean(sample, 0.25)) and min(sample) <= low < mean < high <= max(sample)
    scores = rng.uniform(size=(5, 6))
    mean, low, high = aggregate.over_tasks(scores)
    assert mean == pytest.approx(trim_mean(scores.ravel(), 0.25)) and low < mean < high
    share, ends = aggregate.profiles({"a": scores})["a"]
    assert share == pytest.approx([np.mean(scores > tau) for tau in aggregate.TAUS])
    assert (ends[0] <= share + 1e-9).all() and (share <= ends[1] + 1e-9).all()


def test_documents_and_pictures_follow_the_results(tmp_path, monkeypatch):
    monkeypatch.setattr(aggregate, "N_RESAMPLES", 100)
    document, out = tmp_path / "evidence.md", tmp_path / "results"
    document.write_text((ROOT / "docs/evidence.md").read_text())
    rows = [
        row_of("cnn", seed, [(10_240, 1.0 + seed), (61_440, 4.0 + seed / 10)], suites.TINY, TINY_BALL) for seed in range(2)
    ]
    for row in rows:
        results.append(results.path_of("tiny", out), row)
    monkeypatch.setattr(sys, "argv", ["tables", "--out", str(out), "--document", str(document)])
    tables.main()
    text = document.read_text()
    assert "| TinyBall-v0 | cnn | **4.05** (4 to 4.1, 2 seeds) | **0.25** (0.25 to 0.25, 2 seeds) |" in text
    assert "2 runs, 0.4 hours of training; P, cpu; torch 2; abc." in text
    names = {path.name for path in out.glob("*.png")}
    assert names == {f"learn_tiny_{one}_61440_{kind}.png" for one in ("sum", "mean") for kind in ("curves", "profiles")}
    assert all(f"](../benchmarks/results/{name})" in text for name in names)
    assert tables.written(text, out) == text
    results.append(results.path_of("tiny", out), replace_seed(rows[0], 2))
    assert tables.written(text, out) != text
    picture = next(iter(tables.pictures_of("tiny", out)))
    assert pictures.fingerprint_of(picture) != tables.fingerprint("tiny", out)


def replace_seed(row, seed):
    return {**row, "seed": seed}


def test_the_documents_are_up_to_date():
    text = (ROOT / "docs/evidence.md").read_text()
    folder = ROOT / "benchmarks/results"
    assert tables.written(text, folder) == text, "run python -m benchmarks tables"
    for name in suites.SUITES:
        for path in tables.pictures_of(name, folder):
            assert pictures.fingerprint_of(path) == tables.fingerprint(name, folder), "run python -m benchmarks tables"


def test_every_row_that_was_not_run_has_a_command_that_runs_it(monkeypatch):
    for name, suite in suites.SUITES.items():
        for preset, task in itertools.product(suite.presets, suite.tasks):
            for budget in suite.budgets:
                line = runs.command_for(name, preset, task, suites.SEEDS, budget)
                monkeypatch.setattr(sys, "argv", ["", *line.split()[4:]])
                wanted = [(preset, task, seed, budget) for seed in suites.SEEDS]
                assert [run.key for run in command.parse().runs] == wanted
