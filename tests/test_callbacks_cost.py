"""The benchmark of looking at an agent compares what it says, and fails where a limit is exceeded."""

import json

import pytest

from benchmarks import callbacks_cost


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.setattr(callbacks_cost, "N_FRAMES", 2)
    return callbacks_cost


def test_the_ratio_is_the_median_over_rounds_of_the_second_to_the_first(benchmark):
    assert benchmark.ratio({"plain": [1.0, 10.0, 1.0], "watched": [1.5, 10.0, 1.1]}) == 1.1


def test_the_meter_counts_the_outer_of_two_methods_once(benchmark, monkeypatch):
    clock = iter([1.0, 4.0, 10.0, 11.0])
    monkeypatch.setattr(benchmark.time, "process_time", lambda: next(clock))

    class Owner:
        def outer(self):
            return self.inner() + 1

        def inner(self):
            return 1

    meter, owner = benchmark.Meter(), Owner()
    meter.watch(owner, "inner")
    meter.watch(owner, "outer")
    assert owner.outer() == 2 and meter.seconds == 3
    assert owner.inner() == 1 and meter.seconds == 4


def test_training_is_measured_with_both_callbacks_and_the_log(benchmark, monkeypatch):
    watched = []
    watch = benchmark.Meter.watch
    monkeypatch.setattr(
        benchmark.Meter,
        "watch",
        lambda self, owner, name: watched.append((type(owner).__name__, name)) or watch(self, owner, name),
    )
    monkeypatch.setattr(benchmark, "N_STEPS", 2048)
    assert 1 < benchmark.training_ratio() < 1.5
    assert {name for name, _ in watched} == {"JacobianSaliencyCallback", "LatentMetricsCallback", "Logger"}


def test_every_task_has_as_many_turns_and_the_first_one_does_not_count(benchmark):
    turns = []
    times = benchmark.interleaved({name: lambda name=name: turns.append(name) for name in ("a", "b")}, 3, "turns")
    assert turns == ["a", "b", "b", "a", "a", "b", "b", "a"] and [len(seconds) for seconds in times.values()] == [3, 3]


@pytest.mark.parametrize(("watched", "arguments", "code"), [(1.03, [], 0), (1.03, ["--check"], 1), (1.01, ["--check"], 0)])
def test_it_exits_with_1_only_where_asked_to_check_and_above_the_limit(
    benchmark, monkeypatch, tmp_path, capsys, watched, arguments, code
):
    def once(tasks, n_rounds, what):
        for task in tasks.values():
            task()
        return {"pass": [1.0], "Jacobian": [1.2]}

    monkeypatch.setattr(benchmark, "interleaved", once)
    monkeypatch.setattr(benchmark, "training_ratio", lambda: watched)
    out = tmp_path / "cost.json"
    monkeypatch.setattr("sys.argv", ["callbacks_cost", "--out", str(out), *arguments])
    with pytest.raises(SystemExit) as stop:
        benchmark.main()
    assert stop.value.code == code
    ratios = json.loads(out.read_text())["results"]["ratios"]
    assert ratios.keys() == benchmark.LIMITS.keys() and ratios[benchmark.TRAINING] == watched
    assert all(value == 1.2 for name, value in ratios.items() if name != benchmark.TRAINING)
    assert ("too slow: training with callbacks" in capsys.readouterr().out) == (watched > 1.02)


def test_the_passes_that_are_compared_have_gradients_and_leave_none(benchmark):
    for name in benchmark.ALGORITHMS:
        model, frames = benchmark.make_batch(name)
        seen = []
        for parameter in model.policy.parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient, seen=seen: seen.append(float(gradient.abs().sum())))
        benchmark.forward_and_backward(model, frames)
        assert any(value > 0 for value in seen)
        assert all(parameter.grad is None for parameter in model.policy.parameters())
