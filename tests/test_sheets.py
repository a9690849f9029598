"""A sheet of what an agent sees."""

import numpy as np
import pytest
from algorithms import make_model, tiny
from PIL import Image

from sb3_latent.sheets import agent_sheet


@pytest.mark.parametrize("name", ["PPO", "RecurrentPPO", "SAC"])
def test_a_sheet_shows_frames_reconstructions_and_saliency(name, tmp_path):
    model = make_model(name, tiny("vae"))
    before = {key: value.clone() for key, value in model.policy.named_parameters()}
    sheet = agent_sheet(model, model.get_env(), tmp_path / "sheet.png", n_images=3, every=2)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), sheet)
    rows = np.flatnonzero(np.diff((sheet.min(axis=(1, 2)) < 128).astype(int)) == 1)
    assert len(rows) >= 3
    assert all(value.equal(before[key]) for key, value in model.policy.named_parameters())


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(ValueError, match="no task reconstructs"):
        agent_sheet(*[model := make_model("PPO", tiny("cnn")), model.get_env()], n_images=1, every=1)
