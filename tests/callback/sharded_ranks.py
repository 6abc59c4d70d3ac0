"""Trains one's own module under Regularize, weights sharded by FSDP2: started by test_sharded with torchrun."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, DistributedSampler

import reglab
from callback.own_module import OwnModule, loaders, trainer
from reglab.regularizers import Regularizer


class Spectral(Regularizer):
    """A penalty that is no sum over elements: the largest singular values."""

    def penalty(self, weights: Mapping[str, Tensor]) -> Tensor | None:
        return 0.1 * torch.stack([torch.linalg.matrix_norm(w, 2) for w in weights.values() if w.dim() == 2]).sum()


class Noise(Regularizer):
    """Draws about weights: the same numbers, however these are cut."""

    def on_step(self, model: nn.Module, step_size: Mapping[str, Tensor]) -> None:
        for name, weight in model.named_parameters():
            weight.add_(0.01 * self.keys.normal_like(weight, self.name, name))


class Sharded(OwnModule):
    """Shards its weights where there are ranks, which deal out the rows like cards."""

    def configure_model(self) -> None:
        if self.device_mesh is not None and not hasattr(self.body, "unshard"):
            fully_shard(self.body[0], mesh=self.device_mesh["data_parallel"])
            fully_shard(self.body, mesh=self.device_mesh["data_parallel"])

    def train_dataloader(self) -> Any:
        data, ranks = loaders()[0].dataset, self.trainer.world_size
        sampler: DistributedSampler[Any] = DistributedSampler(data, ranks, self.trainer.global_rank, shuffle=False)
        return DataLoader(data, 16 // ranks, sampler=sampler)

    def val_dataloader(self) -> Any:
        return loaders()[1]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("own_loss", loss, sync_dist=True)


def adam(weights: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(weights, lr=0.05)


Members = Callable[[], list[Regularizer]]
CASES: dict[str, tuple[Members, dict[str, Any]]] = {
    "proximal": (lambda: [reglab.L1(0.02), reglab.L2(0.1), reglab.WeightDecay(0.1)], {"gradient_clip_val": 0.3}),
    "averaged": (lambda: [reglab.EMA(0.8), reglab.Dropout(0.3), reglab.MaxNorm(0.9)], {}),
    "whole": (lambda: [Spectral(), Noise(), reglab.Flooding(0.5)], {}),
}


def train(case: str, folder: Path, ranks: int, resume: Path | None = None) -> dict[str, Any]:
    """Train, write a checkpoint in ``folder`` at the end, and return what came out, weights whole."""
    members, options = CASES[case]
    if ranks > 1:
        options = {**options, "strategy": ModelParallelStrategy(ranks, 1), "devices": ranks}
    callback, module = reglab.Regularize(members(), "classification"), Sharded(adam, dropout=0.2)
    made = trainer([callback], 3 if resume else 2, default_root_dir=str(folder), **options)
    made.fit(module, ckpt_path=resume, weights_only=False if resume else None)
    made.save_checkpoint(folder / f"{case}.ckpt")
    state = get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {"state": state, "history": callback.history, "own_loss": float(made.callback_metrics["own_loss"])}


def main(folder: Path) -> None:
    results = {case: train(case, folder, 2) for case in CASES}
    results["resumed"] = train("averaged", folder, 2, folder / "averaged.ckpt")
    if torch.distributed.get_rank() == 0:
        torch.save(results, folder / "results.pt")
    torch.distributed.destroy_process_group()  # or Python may abort at its end, see destroy_group_at_exit


if __name__ == "__main__":
    pl.seed_everything(0)
    main(Path(sys.argv[1]))
