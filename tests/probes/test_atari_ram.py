"""The RAM is that of the moment, and its bytes are where the screen shows things."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sb3_latent.probes import collect, ram_indices
from sb3_latent.probes.atari_ram import _TABLE

ale_py = pytest.importorskip("ale_py")
pytest.importorskip("cv2")
gym.register_envs(ale_py)
RED = (200, 72, 72)


class Log(gym.Wrapper):
    """What an environment returned, and the RAM at that moment."""

    def __init__(self, env):
        super().__init__(env)
        self.observations, self.rams = [], []

    def keep(self, observation):
        self.observations.append(observation.copy())
        self.rams.append(self.unwrapped.ale.getRAM().copy())

    def reset(self, **kwargs):
        observation, info = self.env.reset(**kwargs)
        self.keep(observation)
        return observation, info

    def step(self, action):
        observation, *rest = self.env.step(action)
        self.keep(observation)
        return observation, *rest


def test_bytes_are_of_the_moment_through_all_wrappers():
    log = Log(AtariWrapper(gym.make("BreakoutNoFrameskip-v4")))
    dataset = collect(None, VecFrameStack(DummyVecEnv([lambda: log]), 4), "ram", 300)
    assert len(np.unique(dataset.episodes)) > 3
    assert dataset.observations.shape == (300, 4, 84, 84)
    np.testing.assert_array_equal(dataset.observations[:, -1], np.stack(log.observations)[:300, :, :, 0])
    rams = np.stack(log.rams)[:300]
    for name, index in {"ball_x": 99, "ball_y": 101, "player_x": 72, "block_bit_map_29": 29, "score": 84}.items():
        np.testing.assert_array_equal(dataset.labels[name], rams[:, index])
    assert dataset.labels["player_x"].dtype == np.uint8
    assert len(dataset.labels) == 35


def center(mask, axis):
    return np.array([np.flatnonzero(one.any(1 - axis)).mean() if one.any() else np.nan for one in mask])


def off_the_line(ram, pixels):
    """Largest distance in pixels from the best line, where the thing can be seen."""
    seen = np.isfinite(pixels)
    assert seen.sum() > 50 and len(np.unique(ram[seen])) > 10
    line = np.polyfit(ram[seen].astype(float), pixels[seen], 1)
    return np.quantile(np.abs(np.polyval(line, ram[seen].astype(float)) - pixels[seen]), 0.9)


def test_breakout_and_pong_show_what_the_bytes_say():
    breakout = collect(None, gym.make("ALE/Breakout-v5", frameskip=4, repeat_action_probability=0.0), "ram", 400)
    screens = breakout.observations.transpose(0, 2, 3, 1)
    red = (screens == RED).all(-1)
    ball = red[:, 93:185, 8:152]
    assert off_the_line(breakout.labels["ball_x"], center(ball, 1)) < 3
    assert off_the_line(breakout.labels["ball_y"], center(ball, 0)) < 5
    # At the walls the screen cuts the paddle off.
    paddle = red[:, 190:193, 8:152]
    whole = paddle.any(1).sum(1) == 16
    assert off_the_line(breakout.labels["player_x"][whole], center(paddle, 1)[whole]) < 3
    pong = collect(None, gym.make("ALE/Pong-v5", frameskip=4, repeat_action_probability=0.0), "ram", 400)
    screens = pong.observations.transpose(0, 2, 3, 1)
    ball = (screens[:, 34:194] == 236).all(-1)
    assert off_the_line(pong.labels["ball_x"], center(ball, 1)) < 5
    assert off_the_line(pong.labels["ball_y"], center(ball, 0)) < 5
    player = (screens[:, 34:194, 130:150] == (92, 186, 92)).all(-1)
    assert off_the_line(pong.labels["player_y"], center(player, 0)) < 6


def test_tables_are_of_games_that_ale_knows_and_within_the_ram():
    assert set(_TABLE) <= set(ale_py.roms.get_all_rom_ids())
    for game in _TABLE:
        indices = ram_indices(game).values()
        assert len(set(indices)) == len(indices) and all(0 <= index < 128 for index in indices)
    assert ram_indices("pong")["ball_y"] == 54
    assert ram_indices("qbert") == {
        "player_x": 43,
        "player_y": 67,
        "player_column": 35,
        "red_enemy_column": 69,
        "green_enemy_column": 105,
    }
    assert ram_indices("private_eye")["clock_1"] == 69


def test_a_game_without_a_table_is_one_line():
    with pytest.raises(ValueError, match=r"unknown game of the RAM table: 'alien'.*'breakout'.*Pass a function") as error:
        collect(None, gym.make("ALE/Alien-v5"), "ram", 5)
    assert "\n" not in str(error.value)


def test_info_of_atari_is_no_state():
    with pytest.raises(
        ValueError, match=r"info of reset holds no numbers, only \['episode_frame_number'.*use 'ram' for Atari"
    ):
        collect(None, gym.make("ALE/Breakout-v5"), "info", 5)
