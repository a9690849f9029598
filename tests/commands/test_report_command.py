"""``sb3-latent report`` from its arguments to its exit status."""

import pytest

from sb3_latent.cli import main


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "ppo_1"
    folder.mkdir()
    (folder / "monitor.csv").write_text('#{"t_start": 0.0, "env_id": "CartPole-v1"}\nr,l,t\n1.0,10,1.0\n')
    return folder


def test_a_page_and_its_numbers(folder, tmp_path, capsys):
    assert main(["report", f"mine={folder}", "-o", str(tmp_path / "page.html")]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["wrote", str(tmp_path / f"page.{ending}")] for ending in ("html", "json")
    ]
    assert "stage" in err
    page = (tmp_path / "page.html").read_text()
    assert "<title>Report on mine</title>" in page
    assert "ppo_1 holds no model" in page


def test_nothing_is_played_unless_wanted(folder, tmp_path):
    assert main(["report", str(folder), "--no-play", "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "leave out --no-play" in page and "holds no model" not in page


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere"], "no folder nowhere"),
        (["{empty}"], "holds nothing that a run leaves"),
        (["{run}", "--model", "nowhere.zip"], "--model nowhere.zip is no file"),
        (["{run}", "other={empty}", "--model", "{run}/monitor.csv"], "--model plays for one method"),
        (["{run}", "--steps", "0"], "--steps=0"),
        (["{run}", "-o", "page.pdf"], "does not end in .html"),
        (["{run}", "{run}"], "given twice"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    given = [argument.format(run=folder, empty=tmp_path / "empty") for argument in arguments]
    assert main(["report", *given]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("sb3-latent: ") and message in line
    assert not list(tmp_path.glob("*.html"))


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as exit_of:
        main(["report", "--help"])
    assert exit_of.value.code == 0
    assert "examples:" in capsys.readouterr().out
