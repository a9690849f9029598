"""Hyperparameter files without a fault, and faults to plant in them."""

PPO = """\
atari: &atari
  env_wrapper:
    - stable_baselines3.common.atari_wrappers.AtariWrapper: {noop_max: 20}
  frame_stack: 4
  n_envs: 8
  n_timesteps: !!float 1e7
  policy: sb3_latent.LatentActorCriticPolicy
  policy_kwargs: &policy
    preset: vae
    latent_dim: 20
    trunk_kwargs: {hidden_dim: 256}
    coefs: {recon: 0.1, kl: 0.1}
    net_arch: {pi: [64], vf: [64]}
  callback:
    - sb3_latent.callbacks.LatentMetricsCallback:
        every: 1000
  n_steps: 128
  batch_size: 256
  learning_rate: lin_2.5e-4
  rollout_buffer_class: sb3_latent.FrameRolloutBuffer
  rollout_buffer_kwargs: {chunk_length: 16}
  clip_range: 0.1
  normalize: {norm_obs: false, norm_reward: true}
PongNoFrameskip-v4:
  <<: *atari
  gamma: 0.98
  policy_kwargs:
    <<: *policy
    kappa: 2.0
"""
SAC = """\
default: &default
  n_timesteps: 1000
  policy: sb3_latent.LatentSACPolicy
  policy_kwargs: &policy
    preset: sac_ae_two_optimizers
    auxiliary_optimizer_kwargs: {lr: 0.001, decoder: {weight_decay: 0.0}}
    optimizers: {ent_coef: {lr: 0.0001}}
    augmentation: {random_shift: {pad: 4}}
  replay_buffer_class: sb3_latent.FrameReplayBuffer
  replay_buffer_kwargs: {n_frames: 3}
  train_freq: [1, step]
  ent_coef: auto_0.1
  tau: 0.01
sb3_latent/dmc-cheetah-run-pixels-v0:
  <<: *default
"""
SLAC = """\
default:
  env_wrapper: sb3_latent.HistoryWrapper
  n_timesteps: 1000
  policy: sb3_latent.SLACPolicy
  policy_kwargs:
    preset: slac
    loss_kwargs: {std: 0.1}
    actor_reads: history
    dynamics_kwargs: {hidden: [64, 64]}
  replay_buffer_class: sb3_latent.SequenceReplayBuffer
"""
TEXTS = {"ppo": PPO, "sac": SAC, "slac": SLAC}

# algorithm, what is written, what is planted in its place, key that is reported, part of the message.
FAULTS = [
    ("ppo", "n_envs: 8", "n_env: 8", "atari.n_env", "unknown key 'n_env'; did you mean 'n_envs'?"),
    ("ppo", "n_envs: 8", "seed: 8", "atari.seed", "unknown key 'seed'"),
    ("ppo", "n_envs: 8", "n_envs: -8", "atari.n_envs", "-8 is less than the minimum of 1"),
    ("ppo", "n_envs: 8", "n_envs: '8'", "atari.n_envs", "'8' must be of type integer"),
    ("ppo", "n_envs: 8", "n_envs: 8.0", "atari.n_envs", "8.0 must be of type integer"),
    ("ppo", "n_envs: 8", "n_envs: true", "atari.n_envs", "True must be of type integer"),
    ("ppo", "n_envs: 8", "n_envs:", "atari.n_envs", "None must be of type integer"),
    ("ppo", "n_envs: 8", "buffer_size: 8", "atari.buffer_size", "unknown key 'buffer_size'"),
    ("ppo", "  n_steps: 128", "  n_envs: 16", "atari.n_envs", "written twice; line 5 has it as well"),
    ("ppo", "frame_stack: 4", "frame_stack: 0", "atari.frame_stack", "0 is less than the minimum of 1"),
    ("ppo", "n_steps: 128", "n_steps: many", "atari.n_steps", "'many' must be of type integer"),
    (
        "ppo",
        "lin_2.5e-4",
        "1e-4",
        "atari.learning_rate",
        "'1e-4' is text to YAML, which wants a point in such numbers: 1.0e-04",
    ),
    ("ppo", "lin_2.5e-4", "linear_2.5e-4", "atari.learning_rate", "'linear_2.5e-4' is none of the texts allowed"),
    ("ppo", "lin_2.5e-4", "-0.1", "atari.learning_rate", "less than the minimum of 0"),
    ("ppo", "gamma: 0.98", "gamma: 1.5", "PongNoFrameskip-v4.gamma", "1.5 is greater than the maximum of 1"),
    ("ppo", "gamma: 0.98", "gama: 0.98", "PongNoFrameskip-v4.gama", "did you mean 'gamma'?"),
    ("ppo", "preset: vae", "preset: vea", "atari.policy_kwargs.preset", "unknown value 'vea'; did you mean"),
    ("ppo", "preset: vae", "preset: drq", "atari.policy_kwargs.preset", "unknown value 'drq'"),
    ("ppo", "latent_dim: 20", "latnt_dim: 20", "atari.policy_kwargs.latnt_dim", "did you mean 'latent_dim'?"),
    ("ppo", "latent_dim: 20", "latent_dim: 0", "atari.policy_kwargs.latent_dim", "0 is less than the minimum of 1"),
    ("ppo", "latent_dim: 20", "latent_dim: big", "atari.policy_kwargs.latent_dim", "'big' must be of type integer"),
    ("ppo", "latent_dim: 20", "trunk: nture", "atari.policy_kwargs.trunk", "unknown trunk 'nture'; did you mean 'nature'?"),
    ("ppo", "latent_dim: 20", "head: gausian", "atari.policy_kwargs.head", "did you mean 'gaussian'?"),
    ("ppo", "latent_dim: 20", "gradient_mode: two", "atari.policy_kwargs.gradient_mode", "unknown value 'two'"),
    ("ppo", "latent_dim: 20", "tasks: {recn: {}}", "atari.policy_kwargs.tasks", "did you mean 'recon'?"),
    ("ppo", "latent_dim: 20", "optimizer_class: adamm", "atari.policy_kwargs.optimizer_class", "did you mean 'adam'?"),
    ("ppo", "latent_dim: 20", "activation_fn: 3", "atari.policy_kwargs.activation_fn", "3 must be of type string"),
    ("ppo", "kl: 0.1", "klt: 0.1", "atari.policy_kwargs.coefs", "unknown coefficient 'klt'"),
    ("ppo", "hidden_dim: 256", "hiden_dim: 256", "atari.policy_kwargs.trunk_kwargs.hiden_dim", "did you mean 'hidden_dim'?"),
    ("ppo", "vf: [64]", "v: [64]", "atari.policy_kwargs.net_arch.v", "unknown key 'v'"),
    ("ppo", "vf: [64]", "vf: [0]", "atari.policy_kwargs.net_arch.vf[0]", "0 is less than the minimum of 1"),
    ("ppo", "kappa: 2.0", "kappa: atuo", "PongNoFrameskip-v4.policy_kwargs.kappa", "did you mean 'auto'?"),
    ("ppo", "LatentActorCriticPolicy", "LatntPolicy", "atari.policy", "unknown name 'LatntPolicy'; did you mean 'Latent"),
    ("ppo", "sb3_latent.LatentActorCriticPolicy", "CnPolicy", "atari.policy", "did you mean 'CnnPolicy'?"),
    ("ppo", "LatentActorCriticPolicy", "LatentSACPolicy", "atari.policy", "is no ActorCriticPolicy"),
    ("ppo", "LatentActorCriticPolicy", "LatentRecurrentActorCriticPolicy", "atari.policy", "is for RecurrentPPO, not for PPO"),
    ("ppo", "latent_dim: 20", "lstm_hidden_size: 9", "atari.policy_kwargs.lstm_hidden_size", "unknown key"),
    (
        "ppo",
        "every: 1000",
        "evry: 1000",
        "atari.callback[0].sb3_latent.callbacks.LatentMetricsCallback.evry",
        "unknown key 'evry'; did you mean 'every'?",
    ),
    (
        "ppo",
        "every: 1000",
        "every: 0",
        "atari.callback[0].sb3_latent.callbacks.LatentMetricsCallback.every",
        "every=0 must be an integer of at least 1",
    ),
    (
        "ppo",
        "LatentMetricsCallback:",
        "LatentMetricCallback:",
        "atari.callback[0].sb3_latent.callbacks.LatentMetricCallback",
        "cannot be imported",
    ),
    (
        "ppo",
        "sb3_latent.callbacks.LatentMetricsCallback",
        "torch.nn.Linear",
        "atari.callback[0].torch.nn.Linear",
        "no BaseCallback",
    ),
    (
        "ppo",
        "noop_max: 20",
        "noop: 20",
        "atari.env_wrapper[0].stable_baselines3.common.atari_wrappers.AtariWrapper.noop",
        "unknown key 'noop'; did you mean 'noop_max'?",
    ),
    (
        "ppo",
        "sb3_latent.callbacks.LatentMetricsCallback:\n        every: 1000",
        "sb3_latent.callbacks.EncoderPretrainCallback: {betas: 3}",
        "atari.callback[0].sb3_latent.callbacks.EncoderPretrainCallback.betas",
        "did you mean 'beta'?",
    ),
    (
        "slac",
        "actor_reads: history",
        "trunk_kwargs: {hidden_dim: 9}",
        "default.policy_kwargs.trunk_kwargs.hidden_dim",
        "unknown key",
    ),
    ("ppo", "noop_max: 20", "env: 20", "atari.env_wrapper[0].stable_baselines3.common", "unknown key 'env'"),
    ("sac", "n_frames: 3", "device: cpu", "default.replay_buffer_kwargs.device", "unknown key 'device'"),
    ("sac", "dmc-cheetah-run-pixels-v0", "Xyz-v9", "sb3_latent/Xyz-v9", "unknown environment 'sb3_latent/Xyz-v9'"),
    ("ppo", "norm_reward: true", "norm_rew: true", "atari.normalize.norm_rew", "did you mean 'norm_reward'?"),
    ("ppo", "{norm_obs: false, norm_reward: true}", "'dict('", "atari.normalize", "is no Python expression"),
    ("ppo", "PongNoFrameskip-v4:", "PongNoFrameskp-v4:", "PongNoFrameskp-v4", "did you mean 'PongNoFrameskip-v4'?"),
    ("ppo", "atari: &atari", "atri: &atari", "atri", "unknown environment 'atri'; did you mean 'atari'?"),
    (
        "sac",
        "dmc-cheetah-run",
        "dmc-cheetah-rn",
        "sb3_latent/dmc-cheetah-rn-pixels-v0",
        "did you mean 'sb3_latent/dmc-cheetah-run",
    ),
    ("sac", "{lr: 0.001,", "{lrr: 0.001,", "default.policy_kwargs.auxiliary_optimizer_kwargs.lrr", "unknown key 'lrr'"),
    (
        "sac",
        "{weight_decay: 0.0}",
        "{decay: 0}",
        "default.policy_kwargs.auxiliary_optimizer_kwargs.decoder.decay",
        "unknown key",
    ),
    (
        "sac",
        "{lr: 0.0001}",
        "{lr: 0.0}",
        "default.policy_kwargs.optimizers.ent_coef.lr",
        "less than or equal to the minimum of 0",
    ),
    ("sac", "{ent_coef: {lr", "{entcoef: {lr", "default.policy_kwargs.optimizers.entcoef", "did you mean 'ent_coef'?"),
    ("sac", "{pad: 4}", "{pd: 4}", "default.policy_kwargs.augmentation.random_shift.pd", "unknown key 'pd'"),
    ("sac", "preset: sac_ae_two_optimizers", "preset: slac", "default.policy_kwargs.preset", "unknown value 'slac'"),
    ("sac", "FrameReplayBuffer", "FramReplayBuffer", "default.replay_buffer_class", "did you mean 'FrameReplayBuffer'?"),
    ("sac", "FrameReplayBuffer", "TinyBallEnv", "default.replay_buffer_class", "is no ReplayBuffer"),
    ("sac", "n_frames: 3", "n_frame: 3", "default.replay_buffer_kwargs.n_frame", "did you mean 'n_frames'?"),
    ("ppo", "FrameRolloutBuffer", "FrameRollBuffer", "atari.rollout_buffer_class", "did you mean 'FrameRolloutBuffer'?"),
    ("ppo", "FrameRolloutBuffer", "FrameReplayBuffer", "atari.rollout_buffer_class", "is no RolloutBuffer"),
    ("ppo", "chunk_length: 16", "gamma: 0.9", "atari.rollout_buffer_kwargs.gamma", "unknown key 'gamma'"),
    (
        "ppo",
        "chunk_length: 16",
        "chunk_length: 0",
        "atari.rollout_buffer_kwargs.chunk_length",
        "0 is less than the minimum of 1",
    ),
    ("sac", "[1, step]", "[1, steps]", "default.train_freq[1]", "'steps' is not one of"),
    ("sac", "auto_0.1", "autom", "default.ent_coef", "'autom' is none of the texts allowed"),
    ("sac", "tau: 0.01", "action_noise: normal", "default.action_noise", "unknown key 'action_noise'"),
    ("sac", "tau: 0.01", "noise_type: norml", "default.noise_type", "did you mean 'normal'?"),
    ("sac", "tau: 0.01", "tau: [0.01", "", "no valid YAML, column"),
    ("slac", "std: 0.1", "st: 0.1", "default.policy_kwargs.loss_kwargs.st", "did you mean 'std'?"),
    ("slac", "std: 0.1", "std: -0.1", "default.policy_kwargs.loss_kwargs.std", "minimum of 0"),
    ("slac", "actor_reads: history", "actor_reads: past", "default.policy_kwargs.actor_reads", "unknown value 'past'"),
    ("slac", "preset: slac", "preset: vae", "default.policy_kwargs.preset", "unknown value 'vae'"),
    ("slac", "{hidden: [64, 64]}", "{hiden: [64]}", "default.policy_kwargs.dynamics_kwargs.hiden", "did you mean 'hidden'?"),
    ("slac", "sb3_latent.HistoryWrapper", "[sb3_latent.HistoryWraper]", "default.env_wrapper[0]", "'HistoryWrapper'?"),
    (
        "slac",
        "sb3_latent.HistoryWrapper",
        "{sb3_latent.HistoryWrapper: {length: 1}}",
        "default.env_wrapper.sb3_latent.Hi",
        "minimum of 2",
    ),
]
