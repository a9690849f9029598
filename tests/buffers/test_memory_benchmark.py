"""The memory benchmark runs at a tiny size, and its limit holds for what a fresh process says of itself."""

import json
import sys
from itertools import pairwise

import pytest

from benchmarks import memory


def test_resident_memory_stays_below_the_limit():
    measured = memory.in_a_fresh_process(memory.resident_memory, "frames once", 4000)
    once = 4000 * 84 * 84 * 3
    grown = measured["resident_bytes_after"] - measured["resident_bytes_before"]
    assert grown > once
    assert measured["GB"] == pytest.approx(grown / 1e9 * 25) and measured["GB"] < memory.LIMITS[memory.MEMORY]


def test_it_writes_what_it_measured_and_fails_where_the_limit_is_exceeded(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(memory, "in_a_fresh_process", lambda function, *args: function(*args))
    monkeypatch.setattr(memory, "resident_memory", lambda name, n: {"GB": {"frames once": 3.0, "SB3": 12.0}[name]})
    out = tmp_path / "memory.json"
    sizes = ["--transitions", "300", "--stock", "130", "--rounds", "8"]
    monkeypatch.setattr(sys, "argv", ["memory", *sizes, "--out", str(out), "--check"])
    with pytest.raises(SystemExit) as stop:
        memory.main()
    assert stop.value.code == 1
    assert f"too much: {memory.MEMORY} is 3.000, at most 2.25" in capsys.readouterr().out
    figures = json.loads(out.read_text())["results"]["figures"]
    assert figures["memory of SB3 / frames once"] == 4
    assert figures["GB for 100,000 transitions, SB3 (scaled from 130)"] == 12
    assert all(value > 0 for value in figures.values())


def test_an_episode_is_a_row_of_stacks():
    rows = [*memory.episode(memory.np.random.default_rng(0))]
    assert len(rows) == memory.EPISODE_STEPS and [bool(row[4]) for row in rows].index(True) == len(rows) - 1
    assert not rows[0][0][:, :6].any()
    for (_, next_obs, *_), (obs, *_) in pairwise(rows):
        assert (next_obs == obs).all()
