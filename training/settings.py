"""Every setting of the bundled model's training, in one place."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelSettings:
    """The shape of the Llama model."""

    vocab_size: int = 4096
    d_model: int = 192
    n_layers: int = 12
    n_heads: int = 4
    d_mlp: int = 512
    context: int = 512
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    init_std: float = 0.02

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads


@dataclass(frozen=True)
class OptimSettings:
    """Muon for the matrices inside the layers, Adam for the rest."""

    muon_lr: float = 0.02
    muon_momentum: float = 0.95
    muon_weight_decay: float = 0.1
    newton_schulz_steps: int = 5
    embed_lr: float = 0.003
    norm_lr: float = 0.003
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-10
    warmup_fraction: float = 0.01
    decay_fraction: float = 0.33


@dataclass(frozen=True)
class DataSettings:
    """What a batch is made of. Sizes are in tokens and for one process."""

    skill_share: float = 0.2
    aside_share: float = 0.005
    lengths: tuple[tuple[float, int], ...] = ((0.0, 128), (0.4, 256), (0.85, 512))
    micro_tokens: int = 2048
    micro_batches: int = 2
    seed: int = 0

    def length_at(self, fraction: float) -> int:
        """Return the sequence length at this fraction of the training time."""
        return [length for start, length in self.lengths if fraction >= start][-1]


@dataclass(frozen=True)
class Settings:
    """All of it."""

    model: ModelSettings = field(default_factory=ModelSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    data: DataSettings = field(default_factory=DataSettings)
    checkpoint_seconds: float = 300.0


SETTINGS = Settings()
END_OF_TEXT = "<|endoftext|>"
