"""Replay buffers for SB3's off-policy algorithms."""

from sb3_latent.buffers.frame_replay_buffer import FrameReplayBuffer
from sb3_latent.buffers.sequence_replay_buffer import SequenceReplayBuffer

__all__ = ["FrameReplayBuffer", "SequenceReplayBuffer"]
