"""Replay buffers for SB3's off-policy algorithms."""

from sb3_latent.buffers.frame_replay_buffer import FrameReplayBuffer

__all__ = ["FrameReplayBuffer"]
