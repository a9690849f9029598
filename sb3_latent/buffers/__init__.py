"""Buffers for SB3's algorithms."""

from sb3_latent.buffers.frame_replay_buffer import FrameReplayBuffer
from sb3_latent.buffers.frame_rollout_buffer import FrameRolloutBuffer, MaskableFrameRolloutBuffer
from sb3_latent.buffers.sequence_replay_buffer import SequenceReplayBuffer

__all__ = ["FrameReplayBuffer", "FrameRolloutBuffer", "MaskableFrameRolloutBuffer", "SequenceReplayBuffer"]
