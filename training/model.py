"""The training form of the model: stacked weights, one matrix multiplication for what shares an input.

It computes what LlamaForCausalLM computes; `export` hands the weights over, and `evaluate.py`
checks that the logits are equal.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from training.settings import ModelSettings

STRETCH = 128


class FastLlama(nn.Module):
    """A Llama whose layers' weights are stacked, so that Muon can treat them in batches."""

    def __init__(self, settings: ModelSettings) -> None:
        """Draw the weights; the matrices that write to the residual stream start at zero."""
        super().__init__()
        self.settings = settings
        layers, width, mlp = settings.n_layers, settings.d_model, settings.d_mlp
        self.embed = nn.Parameter(torch.randn(settings.vocab_size, width) * settings.init_std)
        self.attn = nn.Parameter(torch.randn(layers, 4, width, width) * width**-0.5 * 0.5)
        self.gate_up = nn.Parameter(torch.randn(layers, 2, mlp, width) * width**-0.5 * 0.5)
        self.down = nn.Parameter(torch.zeros(layers, width, mlp))
        self.norms = nn.Parameter(torch.ones(2 * layers + 1, width))
        self.attn.data[:, 3].zero_()
        self.run_block, self.run_head = block, head_loss

    def compiled(self) -> "FastLlama":
        """Run the layer and the head as compiled kernels from now on."""
        self.run_block = torch.compile(block, dynamic=False, fullgraph=True)
        self.run_head = torch.compile(head_loss, dynamic=False, fullgraph=True)
        return self

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of `targets` `[batch, seq]` after `ids`."""
        settings = self.settings
        cos, sin = rotary(ids.shape[1], settings.d_head, settings.rope_theta)
        attn, gate_up, down = (w.to(torch.bfloat16) for w in (self.attn, self.gate_up, self.down))
        embed = self.embed.to(torch.bfloat16)
        hidden = F.embedding(ids, embed)
        for index in range(settings.n_layers):
            hidden = self.run_block(
                hidden, attn[index], gate_up[index], down[index],
                self.norms[2 * index], self.norms[2 * index + 1], cos, sin, settings.norm_eps,
            )  # fmt: skip
        return self.run_head(hidden, self.norms[-1], embed, targets, settings.norm_eps)


def rotary(length: int, d_head: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines `[seq, 1, d_head / 2]` of the rotary position embedding."""
    inverse = theta ** -(torch.arange(0, d_head, 2, dtype=torch.float32) / d_head)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), inverse)
    return angles.cos()[:, None].bfloat16(), angles.sin()[:, None].bfloat16()


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise in float32, return bfloat16."""
    wide = hidden.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale * weight).to(torch.bfloat16)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the halves of each head, as Llama does. `x` is `[..., seq, heads, d_head]`."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def heads_first(x: Tensor) -> Tensor:
    """Return `[batch * heads, seq, d_head]` from `[batch, seq, heads, d_head]`."""
    return x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3])


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend causally, a stretch of queries at a time so that little of the future is computed.

    On the CPU this is twice as fast as the fused kernel in bfloat16 at these lengths.
    """
    query, length = query * query.shape[-1] ** -0.5, query.shape[1]
    parts = []
    for start in range(0, length, STRETCH):
        stop = min(start + STRETCH, length)
        scores = torch.bmm(query[:, start:stop], key[:, :stop].transpose(1, 2)).float()
        future = torch.arange(stop) > torch.arange(start, stop)[:, None]
        weights = scores.masked_fill(future, float("-inf")).softmax(-1).to(torch.bfloat16)
        parts.append(torch.bmm(weights, value[:, :stop]))
    return torch.cat(parts, dim=1)


def block(
    hidden: Tensor, attn: Tensor, gate_up: Tensor, down: Tensor,
    norm_attn: Tensor, norm_mlp: Tensor, cos: Tensor, sin: Tensor, eps: float,
) -> Tensor:  # fmt: skip
    """Run one decoder layer on `[batch, seq, d_model]`."""
    batch, length, width = hidden.shape
    d_head = 2 * cos.shape[-1]
    heads = width // d_head
    normed = rms_norm(hidden, norm_attn, eps)
    qkv = F.linear(normed, attn[:3].reshape(3 * width, width)).view(batch, length, 3, heads, d_head)
    query, key = rotate(qkv[:, :, 0], cos, sin), rotate(qkv[:, :, 1], cos, sin)
    mixed = attention(*(heads_first(x) for x in (query, key, qkv[:, :, 2])))
    mixed = mixed.view(batch, heads, length, d_head).transpose(1, 2).reshape(batch, length, width)
    hidden = hidden + F.linear(mixed, attn[3])
    normed = rms_norm(hidden, norm_mlp, eps)
    gate, up = F.linear(normed, gate_up.reshape(-1, width)).chunk(2, dim=-1)
    return hidden + F.linear(F.silu(gate) * up, down)


def head_loss(hidden: Tensor, norm: Tensor, embed: Tensor, targets: Tensor, eps: float) -> Tensor:
    """Return the mean cross-entropy in nats after the final norm and the tied unembedding."""
    logits = F.linear(rms_norm(hidden, norm, eps).flatten(0, 1), embed)
    picked = logits.gather(1, targets.reshape(-1, 1)).float()
    return (logits.float().logsumexp(1, keepdim=True) - picked).mean()


def llama_config(settings: ModelSettings, end_of_text: int) -> LlamaConfig:
    """Return the config of the exported model."""
    return LlamaConfig(
        vocab_size=settings.vocab_size,
        hidden_size=settings.d_model,
        intermediate_size=settings.d_mlp,
        num_hidden_layers=settings.n_layers,
        num_attention_heads=settings.n_heads,
        num_key_value_heads=settings.n_heads,
        max_position_embeddings=settings.context,
        rope_theta=settings.rope_theta,
        rms_norm_eps=settings.norm_eps,
        initializer_range=settings.init_std,
        tie_word_embeddings=True,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
        use_cache=True,
    )


def export(weights: dict[str, Tensor], settings: ModelSettings, end_of_text: int) -> LlamaForCausalLM:
    """Return the plain transformers model (float32) with these weights."""
    model = LlamaForCausalLM(llama_config(settings, end_of_text)).eval()
    norms = weights["norms"]
    state = {"model.embed_tokens.weight": weights["embed"], "model.norm.weight": norms[-1]}
    for index in range(settings.n_layers):
        prefix = f"model.layers.{index}."
        for place, name in enumerate("qkvo"):
            state[f"{prefix}self_attn.{name}_proj.weight"] = weights["attn"][index, place]
        for place, name in enumerate(("gate", "up")):
            state[f"{prefix}mlp.{name}_proj.weight"] = weights["gate_up"][index, place]
        state[f"{prefix}mlp.down_proj.weight"] = weights["down"][index]
        state[f"{prefix}input_layernorm.weight"] = norms[2 * index]
        state[f"{prefix}post_attention_layernorm.weight"] = norms[2 * index + 1]
    state["lm_head.weight"] = weights["embed"]
    model.load_state_dict(state)
    return model
