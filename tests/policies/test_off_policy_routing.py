"""Which loss moves which part: measured again, compared with the docs and with what the settings promise."""

import json
import sys

import pytest
from source_tree import ROOT

from benchmarks import routing
from sb3_latent.sharing import Sharing

SETTINGS = ["actor_reads", "gradient_mode", "encoder_gradients"]


@pytest.fixture(scope="module")
def rows():
    return routing.measure_all()


def test_every_setting_is_measured_once(rows):
    settings = [(row["actor_reads"], row["gradient_mode"], *sorted(row["encoder_gradients"])) for row in rows]
    assert len(settings) == len(set(settings)) == 2 * 2 * 2**3


def test_what_is_measured_is_what_the_settings_promise(rows):
    for row in rows:
        moved_by, gets = row["moved_by"], set(row["encoder_gradients"])
        reads_trunk = row["actor_reads"] == "trunk"
        assert set(moved_by["trunk"]) == gets
        assert set(moved_by["encoder's head"]) == (gets - {"actor"} if reads_trunk else gets)
        assert moved_by.get("actor's own head") == (["actor"] if reads_trunk else None)
        assert (moved_by["actor"], moved_by["critic"], moved_by["decoder"]) == (["actor"], ["critic"], ["task"])
        assert moved_by["target encoder"] == moved_by["target critic"] == []


def test_the_docs_show_what_is_measured(rows):
    text = (ROOT / "docs" / "routing.md").read_text()
    assert routing.with_table(text, routing.table(rows)) == text, "run python -m benchmarks.routing"


def test_the_json_holds_what_is_measured(rows):
    assert json.loads((ROOT / "benchmarks" / "results" / "routing.json").read_text())["results"] == rows


def test_the_table_has_a_line_for_each_row_and_a_cell_for_each_part():
    row = {
        "actor_reads": "latent",
        "gradient_mode": "joint",
        "encoder_gradients": [],
        "moved_by": {"trunk": [], "actor": ["actor"]},
    }
    head, _, line = routing.table([row]).splitlines()
    cells = dict(zip(*([cell.strip() for cell in part.split("|")[1:-1]] for part in (head, line)), strict=True))
    assert cells["trunk"] == "none" and cells["actor"] == "actor" and cells["critic"] == "-"
    assert [cells[f"`{name}`"] for name in SETTINGS] == ["`latent`", "`joint`", "none"]


def test_the_script_writes_both_files(monkeypatch, tmp_path, capsys):
    docs, out = tmp_path / "routing.md", tmp_path / "routing.json"
    docs.write_text(f"before\n{routing.BEGIN}\nold\n{routing.END}\nafter\n")
    monkeypatch.setattr(routing, "SETTINGS", routing.SETTINGS[:1])
    monkeypatch.setattr(sys, "argv", ["routing", "--docs", str(docs), "--out", str(out)])
    routing.main()
    (row,) = json.loads(out.read_text())["results"]
    assert docs.read_text() == f"before\n{routing.BEGIN}\n{routing.table([row])}\n{routing.END}\nafter\n"
    assert routing.table([row]) in capsys.readouterr().out


def test_a_leak_is_seen(monkeypatch):
    """What is measured is what happens, whatever the settings say."""
    assert routing.measure("latent", "joint", ())["trunk"] == []
    monkeypatch.setattr(Sharing, "moves_encoder", lambda *_: True)
    assert routing.measure("latent", "joint", ())["trunk"] == ["actor", "critic", "task"]


def test_another_loss_in_train_would_be_noticed():
    """Losses are told apart by their order."""
    scales = dict.fromkeys(routing.LOSSES, 1.0)
    model = routing.make_model(scales, *routing.SETTINGS[0])
    with routing.scaled(scales), pytest.raises(StopIteration):
        model.train(2, routing.BATCH_SIZE)
