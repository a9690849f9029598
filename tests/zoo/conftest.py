"""Models and environments refer to each other in circles, and hold buffers."""

import gc

import pytest


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()
