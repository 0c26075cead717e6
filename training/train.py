"""Train against the clock in single-threaded processes: python -m training.train FOLDER END_TIME [PROCESSES].

END_TIME is seconds since the epoch: the learning rate reaches zero then, however fast the machine
is. FOLDER holds what training.data wrote; checkpoints and the log go there, and a second start goes
on from the last checkpoint.
"""

import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from training.data import load_ragged, micro_batches, windows
from training.model import FastLlama
from training.optim import Muon
from training.settings import SETTINGS, OptimSettings, Settings

LOG_STEPS = 50


@dataclass
class Progress:
    """Where the run stands; saved in each checkpoint."""

    started: float
    epoch: int = 0
    block: int = 0
    step: int = 0
    tokens: int = 0

    def fraction(self, end: float) -> float:
        """Return the share of the time that is over, as far as this process knows."""
        return (time.time() - self.started) / (end - self.started)


def rate(fraction: float, settings: OptimSettings) -> float:
    """Return the learning-rate factor: warm-up, plateau, linear decay to zero at the end."""
    warm = min(1.0, 0.05 + fraction / settings.warmup_fraction)
    return warm * min(1.0, max(0.0, 1 - fraction) / settings.decay_fraction)


class Run:
    """One process of the training."""

    def __init__(self, folder: Path, end: float, settings: Settings) -> None:
        """Build the model, or load the last checkpoint."""
        self.folder, self.end, self.settings = folder, end, settings
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        torch.manual_seed(settings.data.seed)
        self.net = FastLlama(settings.model).compiled()
        net, optim = self.net, settings.optim
        self.muon = Muon([net.attn, net.gate_up, net.down], optim)
        self.adam = torch.optim.AdamW(
            [{"params": [net.embed], "base": optim.embed_lr}, {"params": [net.norms], "base": optim.norm_lr}],
            betas=optim.betas, eps=optim.eps, weight_decay=0.0,
        )  # fmt: skip
        self.progress = Progress(started=time.time())
        self.saved_at = self.since = time.time()
        self.losses: list[float] = []
        self.load()

    def load(self) -> None:
        """Take up the last checkpoint if there is one."""
        path = self.folder / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.net.load_state_dict(state["net"])
            self.adam.load_state_dict(state["adam"])
            self.muon.momentum = state["muon"]
            self.progress = Progress(**state["progress"])

    def save(self) -> None:
        """Write a checkpoint so that a crash at any moment leaves a whole one."""
        path = self.folder / "checkpoint.pt"
        state = {
            "net": self.net.state_dict(), "adam": self.adam.state_dict(),
            "muon": self.muon.momentum, "progress": vars(self.progress),
        }  # fmt: skip
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def log(self, line: str) -> None:
        """Append one line to the log."""
        with (self.folder / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}\n")

    def share(self, loss: float) -> tuple[float, float]:
        """Average gradients, loss and clock over the processes in one message."""
        params = list(self.net.parameters())
        clock = torch.tensor([loss, self.progress.fraction(self.end)])
        flat = torch.cat([p.grad.reshape(-1) for p in params] + [clock])
        dist.all_reduce(flat)
        flat /= self.count
        places = flat[:-2].split([p.numel() for p in params])
        for param, place in zip(params, places, strict=True):
            param.grad = place.view_as(param)
        return float(flat[-2]), float(flat[-1])

    def accumulate(self, batches: list[torch.Tensor], length: int) -> float:
        """Add up the gradients of the micro-batches; return the mean loss in nats."""
        total = 0.0
        for blocks in batches:
            loss = self.net(*windows(blocks, length)) / len(batches)
            loss.backward()
            total += float(loss.detach())
        return total

    def update(self, fraction: float) -> None:
        """Take one step of both optimisers."""
        scale = rate(fraction, self.settings.optim)
        self.muon.step(scale)
        for group in self.adam.param_groups:
            group["lr"] = group["base"] * scale
        self.adam.step()
        self.net.zero_grad(set_to_none=True)

    def train(self) -> None:
        """Run until the clock says stop."""
        data, progress = self.settings.data, self.progress
        stream = micro_batches(
            load_ragged(self.folder / "stories.npz"),
            load_ragged(self.folder / "skills.npz"),
            data,
            progress.epoch,
            progress.block,
        )
        fraction = self.agreed_fraction()
        while fraction < 1:
            batches = self.deal(stream)
            loss, fraction = self.share(self.accumulate(batches, data.length_at(fraction)))
            self.update(fraction)
            self.count_step(loss, fraction)
            self.rest()

    def agreed_fraction(self) -> float:
        """Return the first process's clock, for the first step."""
        clock = torch.tensor([self.progress.fraction(self.end)])
        dist.broadcast(clock, 0)
        return float(clock)

    def deal(self, stream: Iterator[tuple[int, int, torch.Tensor]]) -> list[torch.Tensor]:
        """Take the micro-batches of one step from the stream; return those of this process."""
        batches = []
        for _ in range(self.settings.data.micro_batches * self.count):
            self.progress.epoch, self.progress.block, blocks = next(stream)
            batches.append(blocks)
        return batches[self.rank :: self.count]

    def count_step(self, loss: float, fraction: float) -> None:
        """Keep the books, and log every `LOG_STEPS` steps."""
        progress, data = self.progress, self.settings.data
        step_tokens = data.micro_batches * self.count * data.micro_tokens
        progress.step += 1
        progress.tokens += step_tokens
        self.losses.append(loss)
        if len(self.losses) == LOG_STEPS:
            if self.rank == 0:
                speed = LOG_STEPS * step_tokens / (time.time() - self.since)
                mean = sum(self.losses) / LOG_STEPS
                self.log(
                    f"step {progress.step} fraction {fraction:.4f} epoch {progress.epoch} "
                    f"tokens {progress.tokens} loss {mean:.4f} tokens/s {speed:.0f}"
                )
            self.since, self.losses = time.time(), []

    def rest(self) -> None:
        """Save and measure now and then, in the first process."""
        if self.rank == 0 and time.time() - self.saved_at > self.settings.checkpoint_seconds:
            self.saved_at = time.time()
            self.save()
            self.log(f"held-out bits per byte (sample) {self.sample('heldout.npz', 3.73):.4f}, "
                     f"aside loss {self.sample('aside.npz', 1.0) * math.log(2):.4f}")  # fmt: skip

    @torch.no_grad()
    def sample(self, name: str, bytes_per_token: float, blocks: int = 32) -> float:
        """Return bits per byte on a sample of a file, in blocks of 512 tokens without overlap."""
        rows = load_ragged(self.folder / name)
        ids = torch.cat([torch.from_numpy(row.astype("int64")) for row in rows])
        step = max(1, (len(ids) - 513) // blocks)
        picked = torch.stack([ids[i : i + 513] for i in range(0, len(ids) - 513, step)])
        picked = picked[:blocks]
        eager = FastLlama(self.settings.model)
        eager.load_state_dict(self.net.state_dict())
        losses = [float(eager(part[:, :-1], part[:, 1:])) for part in picked.split(4)]
        return sum(losses) / len(losses) / math.log(2) / bytes_per_token


def free_port() -> str:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def work(rank: int, count: int, folder: str, end: float, port: str) -> None:
    """Be one of the processes."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    dist.init_process_group("gloo", rank=rank, world_size=count)
    run = Run(Path(folder), end, SETTINGS)
    run.train()
    if rank == 0:
        run.save()
        run.log(f"end: held-out bits per byte (sample) {run.sample('heldout.npz', 3.73):.4f}")
    dist.destroy_process_group()


def main(folder: str, end: str, count: str = "2") -> None:
    """Start the processes and wait for them."""
    mp.spawn(work, (int(count), folder, float(end), free_port()), nprocs=int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
