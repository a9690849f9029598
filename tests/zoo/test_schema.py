"""Faults planted in hyperparameter files: each is reported on its line, at its key, in one line."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rl_zoo3", reason="the extra zoo is not installed")
pytest.importorskip("jsonschema", reason="the extra zoo is not installed")

from planted_faults import FAULTS, PPO, TEXTS

from sb3_latent.zoo.schema import Problem, check_config
from sb3_latent.zoo.yaml_lines import read

CONFIGS = sorted(Path(__file__).parents[2].joinpath("zoo_configs").glob("*.yml"))


def problems_of(text, algorithm, folder):
    path = folder / "file.yml"
    path.write_text(text)
    return check_config(path, algorithm)


@pytest.mark.parametrize("algorithm", TEXTS)
def test_texts_without_a_fault_have_none(algorithm, tmp_path):
    assert problems_of(TEXTS[algorithm], algorithm, tmp_path) == []


@pytest.mark.parametrize(
    ("algorithm", "written", "planted", "key", "message"), FAULTS, ids=[f"{fault[0]}: {fault[2]}" for fault in FAULTS]
)
def test_a_fault_is_reported_on_its_line(algorithm, written, planted, key, message, tmp_path):
    assert TEXTS[algorithm].count(written) >= 1
    before, _, after = TEXTS[algorithm].partition(written)
    problems = problems_of(before + planted + after, algorithm, tmp_path)
    line = before.count("\n") + 1 + (key == "")  # an open bracket is missed on the line after
    found = [
        problem for problem in problems if problem.line == line and problem.key.startswith(key) and message in problem.message
    ]
    assert len(found) == 1, problems
    assert str(found[0]).startswith(f"{tmp_path / 'file.yml'}:{line}: {key}") and "\n" not in str(found[0])


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "holds no hyperparameters"),
        ("- a\n", 1, "holds no hyperparameters"),
        ("atari:\n  n_envs: 8\n n_steps: 1\n", 3, "no valid YAML, column 2"),
        ("atari:\n\tn_envs: 8\n", 2, "no valid YAML, column 1"),
        ("atari:\n  n_envs: *eight\n", 2, "no valid YAML, column 11: found undefined alias"),
        ("atari:\n  n_envs: !!python/tuple [1]\n", 2, "must be of type integer"),
        ("atari:\n  n_envs: !!float x\n", 2, "cannot be read"),
        ("atari: &a\n  n_envs: *a\n", 2, "an alias of something that holds it"),
        ("atari:\n  <<: 3\n", 2, "takes an alias of a mapping"),
        ("atari: &a\n  x: 1\nb: &b\n  y: 1\nc:\n  <<: *a\n  <<: *b\n", 7, "written twice; merge several in one list"),
        ("atari:\n  3: 4\n", 2, "the key 3 is no text"),
        ("atari:\n  [1]: 4\n", 2, "a key that is no text"),
        ("atari:\n  n_envs: \x00\n", 1, "no valid YAML"),
        ("atari:\n  n_envs: 8\n", 1, "'policy' is a required property"),
        ("atari: 3\n", 1, "3 must be of type object"),
        ("\n\natari:\n  callback: [3]\n", 4, "3 must be a dotted path"),
        ("atari:\n  callback:\n    - a.B:\n      c.D:\n", 3, "must be a dotted path, or one with its arguments"),
    ],
)
def test_what_is_hardly_a_file_of_hyperparameters(text, line, message, tmp_path):
    found = [problem for problem in problems_of(text, "ppo", tmp_path) if problem.line == line and message in problem.message]
    assert len(found) == 1


def test_what_is_inherited_is_reported_once_where_it_is_written(tmp_path):
    (problem,) = problems_of(PPO.replace("latent_dim: 20", "latent_dim: -1"), "ppo", tmp_path)
    assert (problem.line, problem.key) == (10, "atari.policy_kwargs.latent_dim")


def test_what_a_task_makes_wrong_is_reported_where_it_is_written(tmp_path):
    problems = problems_of(PPO.replace("kappa: 2.0", "preset: cnn"), "ppo", tmp_path)
    assert [(problem.line, problem.key) for problem in problems] == [(12, "PongNoFrameskip-v4.policy_kwargs.coefs")]


def test_several_faults_are_all_reported(tmp_path):
    text = PPO.replace("latent_dim: 20", "trunk: nope\n    head: neither").replace("n_steps: 128", "n_steps: 0")
    found = [(problem.line, problem.key.rpartition(".")[2]) for problem in problems_of(text, "ppo", tmp_path)]
    assert found == [(10, "trunk"), (11, "head"), (18, "n_steps")]


def test_settings_that_need_each_other_need_no_order(tmp_path):
    text = PPO.replace("preset: vae", "preset: cnn").replace(
        "coefs: {recon: 0.1, kl: 0.1}", "coefs: {recon: 0.1}\n    tasks: {recon: {}}"
    )
    assert problems_of(text, "ppo", tmp_path) == []


@pytest.mark.parametrize("env_id", ["MiniGrid-Empty-5x5-v0", "HalfCheetahBulletEnv-v0", "other_package/dmc-cheetah-rn-v0"])
def test_environments_of_other_packages_are_no_fault(env_id, tmp_path):
    assert problems_of(PPO.replace("PongNoFrameskip-v4", env_id), "ppo", tmp_path) == []


def test_classes_of_stock_policies_cannot_be_written(tmp_path):
    text = "atari:\n  policy: CnnPolicy\n  n_timesteps: 1\n  policy_kwargs:\n    activation_fn: gelu\n"
    (problem,) = problems_of(text, "ppo", tmp_path)
    assert problem.line == 5 and "takes a Python object" in problem.message
    expression = text.replace("\n    activation_fn: gelu", ' "dict(activation_fn=nn.GELU)"')
    assert problems_of(expression, "ppo", tmp_path) == []
    assert "is no Python expression" in problems_of(expression.replace("GELU)", "GELU"), "ppo", tmp_path)[0].message


def test_an_algorithm_that_nobody_knows(tmp_path):
    (tmp_path / "mine.yml").write_text(PPO)
    with pytest.raises(ValueError, match=r"unknown algorithm 'mine'.*Allowed: .*'ppo_vae'.* which one it is for"):
        check_config(tmp_path / "mine.yml")
    with pytest.raises(ValueError, match="unknown algorithm 'pppo'; did you mean 'ppo'"):
        check_config(tmp_path / "mine.yml", "pppo")
    with pytest.raises(FileNotFoundError):
        check_config(tmp_path / "none.yml", "ppo")


def test_a_problem_reads_as_one_line():
    assert str(Problem("a.yml", 3, "atari.n_envs", "no.")) == "a.yml:3: atari.n_envs: no."
    assert str(Problem("a.yml", 3, "", "no.")) == "a.yml:3: no."


MERGES = """\
a: &a {x: 1, y: &y {deep: 1}}
b: &b {x: 2, z: [1, {w: 2}]}
c: {y: {<<: *y, more: 2}, <<: [*a, *b], x: 3}
d: {<<: [*b, *a]}
e: [*a, {<<: *b}, !!float 3, 1e3, 0x10, 12:30, ~]
"""


@pytest.mark.parametrize(
    "text", [MERGES, *(path.read_text() for path in CONFIGS)], ids=["merges", *(path.stem for path in CONFIGS)]
)
def test_read_agrees_with_pyyaml(text):
    located, faults = read(text)
    assert faults == [] and located.value == yaml.safe_load(text)


def keys_of(node, loader):
    """Every key as it is written: where it begins and ends, its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.start_mark.index, key.end_mark.index, key.start_mark.line + 1
            yield from keys_of(value, loader)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from keys_of(item, loader)


WRITTEN = [(path, key) for path in CONFIGS for key in sorted(set(keys_of(yaml.compose(path.read_text()), None)))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("misspelt")


@settings(deadline=None, max_examples=150, derandomize=True)
@given(where=st.sampled_from(WRITTEN), data=st.data())
def test_a_misspelt_key_of_our_files_is_reported_on_its_line(folder, where, data):
    path, (start, end, line) = where
    text = path.read_text()
    letter = data.draw(st.integers(start, end - 1))
    misspelt = text[:letter] + data.draw(st.sampled_from(["", "q", text[letter] + "x"])) + text[letter + 1 :]
    if text[start:letter] + misspelt[letter : letter + 1] == "" or misspelt == text:
        return
    copy = folder / path.name
    copy.write_text(misspelt)
    assert line in [problem.line for problem in check_config(copy)]
