"""One step of training a tuned lens: all translators at once, from one forward pass of the frozen model.

With z the lens's logits of a token, q their softmax and p the model's own distribution, the gradient of KL(p || q) by
z is q - p. Where logits are a linear map W of a normed state x, the loss and its gradient by x need no row of the
vocabulary besides z and q themselves: sum(p z) is x . (p W) and (q - p) W is q W - p W, and p W is the same for every
layer. That leaves a product, a softmax and a product a layer. Where logits are something else (soft caps, scales,
blocks), the model's own tail is differentiated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from surgery_core.measure.divergence import log_probabilities
from surgery_core.measure.readout import CHUNK_ELEMENTS, Readout, rows_at_once
from surgery_core.states.residuals import residual_batch
from surgery_core.states.tail import Tail
from surgery_core.surgery.anatomy import device_of


class StepGradients:
    """Losses and gradients of all translators on a batch of text.

    Args:
        model: the frozen model.
        dtype: of the products with the unembedding; float32, or bfloat16 where that is fast.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype
        self.head = Readout(model)
        self.unembed: Any = self.head.unembed
        self.home = self.unembed.weight.device if self.head.slices else device_of(model)

    def read(
        self, batch: torch.Tensor, *, exactly: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return the states `[n_layers, tokens, d_model]` that enter the layers, the last one, and the model's logits.

        The state that leaves the last layer is `[tokens, d_model]`, the logits are `[tokens, vocab]`; states are in
        float32. With `exactly` the model runs in its own number format, else its products are made in the fast one.
        """
        fast = self.dtype == torch.bfloat16 and not exactly
        with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=fast):
            states, logits = residual_batch(self.model, batch)
        # tensors made in inference mode cannot take part in a graph; a clone outside of it can
        flat = states.flatten(1, 2).clone().to(self.home).float()
        return flat[:-1], flat[-1], logits.flatten(0, 1).clone().to(self.home)

    def losses(
        self, states: torch.Tensor, final: torch.Tensor, weights: torch.Tensor, biases: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean KL(final || lens) in nats of each translator, `[n_layers]`, in float32."""
        with torch.no_grad():
            return self._step(states, final, weights, biases, torch.float32, grads=False)[0]

    def backward(
        self, states: torch.Tensor, final: torch.Tensor, weights: torch.Tensor, biases: torch.Tensor
    ) -> torch.Tensor:
        """Set the gradients of `weights` `[n, d, d]` and `biases` `[n, d]`; return the losses `[n]`."""
        with torch.no_grad():
            losses, grads = self._step(states, final, weights, biases, self.dtype, grads=True)
            weights.grad, biases.grad = torch.bmm(grads.transpose(1, 2), states), grads.sum(1)
        return losses

    def _step(
        self,
        states: torch.Tensor,
        final: torch.Tensor,
        weights: torch.Tensor,
        biases: torch.Tensor,
        dtype: torch.dtype,
        *,
        grads: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        translated = torch.baddbmm(states + biases[:, None], states, weights.transpose(1, 2))
        step = self._linear if self.head.slices else self._any
        losses, by_state = step(translated, final, dtype, grads)
        return losses / states.shape[1], by_state.div_(states.shape[1])

    def _linear(
        self, translated: torch.Tensor, final: torch.Tensor, dtype: torch.dtype, grads: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logp = log_probabilities(final)
        p, weight = logp.exp(), self.unembed.weight.to(dtype)
        mixed = p @ self.unembed.weight.float()
        own = self._mean_bias(p) - torch.linalg.vecdot(p, logp)
        # the likeliest of the first few tokens: a full search costs as much as a softmax
        some = final[:, :64].argmax(-1, keepdim=True)
        leaf = translated.requires_grad_()
        with torch.enable_grad():
            normed = self.head.enter(leaf.to(self.unembed.weight.dtype), grad=True).float()
        x, grad = normed.detach(), torch.empty_like(normed)
        losses = -torch.einsum("ltd,td->l", x, mixed) - own.sum()
        size = rows_at_once(weight.shape[0], x.device)
        for layer in range(len(x)):
            for at in range(0, x.shape[1], size):
                part = slice(at, at + size)
                logits = nn.functional.linear(x[layer, part].to(dtype), weight, self._bias(dtype))
                if not grads:
                    losses[layer] += logits.float().logsumexp(-1).sum()
                    continue
                q = logits.softmax(-1)
                losses[layer] += _lse(logits, q, some[part]).sum()
                torch.sub((q @ weight).float(), mixed[part], out=grad[layer, part])
        if not grads:
            return losses.clamp_min(0.0), grad
        normed.backward(grad)  # type: ignore[no-untyped-call]
        by_state: Any = leaf.grad
        return losses.clamp_min(0.0), by_state

    def _bias(self, dtype: torch.dtype) -> torch.Tensor | None:
        return None if self.unembed.bias is None else self.unembed.bias.to(dtype)

    def _mean_bias(self, p: torch.Tensor) -> torch.Tensor | float:
        """Return what the unembedding's bias adds to sum(p z)."""
        return 0.0 if self.unembed.bias is None else p @ self.unembed.bias.float()

    def _any(
        self, translated: torch.Tensor, final: torch.Tensor, dtype: torch.dtype, grads: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logp = log_probabilities(final)
        p = logp.exp()
        parameter_dtype = next(self.model.parameters()).dtype
        losses, by_state = torch.zeros(len(translated), device=final.device), torch.zeros_like(translated)
        size = max(1, CHUNK_ELEMENTS // 2 // final.shape[-1])
        tail = self.head.tail or Tail(self.model)
        for layer in range(len(translated)):
            for at in range(0, translated.shape[1], size):
                part = slice(at, at + size)
                leaf = translated[layer, part].clone().requires_grad_()
                with torch.enable_grad():
                    logits = tail.logits(leaf[None].to(parameter_dtype), grad=True)[0]
                logq = log_probabilities(logits.detach())
                losses[layer] += (p[part] * (logp[part] - logq)).sum()
                if grads:
                    logits.backward((logq.exp_() - p[part]).to(logits.dtype))  # type: ignore[no-untyped-call]
                    gradient: Any = leaf.grad
                    by_state[layer, part] = gradient
        return losses, by_state


def _lse(logits: torch.Tensor, q: torch.Tensor, some: torch.Tensor) -> torch.Tensor:
    """Return the log of the sum of exp over logits `[n, vocab]` whose softmax is `q`.

    It is any token's logit minus its log-probability, without another pass over all; `some` `[n, 1]` names the token.
    """
    chosen = q.gather(-1, some)[:, 0].float()
    if bool((chosen > 0).all()):
        return logits.gather(-1, some)[:, 0].float() - chosen.log()
    return logits.float().logsumexp(-1)


def fast_dtype(model: nn.Module) -> torch.dtype:
    """Return the number format in which products with the unembedding are fast here: bfloat16 or float32.

    bfloat16 where the processor multiplies it in hardware, or where the model is in it already.
    """
    parameter = next(model.parameters())
    if parameter.dtype == torch.bfloat16:
        return torch.bfloat16
    if parameter.device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return torch.bfloat16 if parameter.device.type == "cpu" and amx() else torch.float32
