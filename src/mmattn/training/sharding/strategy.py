"""Lightning's strategy for FSDP2, with checkpoints in one file, written by rank 0, or in a part per process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer

from mmattn.errors import MmattnError, first_line
from mmattn.training.checkpoints.atomic import AtomicCheckpointIO
from mmattn.training.checkpoints.left_out import LEFT_OUT, gathered
from mmattn.training.checkpoints.parts import read_parts, read_rest, remove, write_parts
from mmattn.training.checkpoints.states import OPTIMIZERS, WEIGHTS, State, flatten, named, numbered, unflatten
from mmattn.training.distributed.group import from_first
from mmattn.training.loop.module import TrainingModule


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over `world` processes.

    `shard`: the number of processes that shard the weights; the other groups hold replicas (HSDP); 0: all processes.
    `parts`: each process writes its part of a checkpoint. Any number of processes can read either kind.
    """

    def __init__(self, world: int, shard: int = 0, parts: bool = False) -> None:
        super().__init__(world, 1, save_distributed_checkpoint=parts)
        self.world = world
        self.shard = shard or world
        self.parts = parts

    def setup_environment(self) -> None:
        self._setup_distributed()
        if self.shard == self.world:
            shape, names = (self.world,), ("shard",)
        else:
            shape, names = (self.world // self.shard, self.shard), ("replicate", "shard")
        assert self.lightning_module is not None
        self._device_mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=names)
        self.lightning_module._device_mesh = self._device_mesh

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        if not self.parts:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        path, checkpoint_io = Path(filepath), self.checkpoint_io
        assert isinstance(checkpoint_io, AtomicCheckpointIO)
        tensors = flatten(checkpoint[WEIGHTS], checkpoint[OPTIMIZERS])
        groups = [optimizer["param_groups"] for optimizer in checkpoint[OPTIMIZERS]]
        rest = {name: value for name, value in checkpoint.items() if name != WEIGHTS} | {OPTIMIZERS: groups}
        part = path.with_name(f".{path.name}.part")
        try:
            from_first(lambda: remove(part))
            write_parts(part, tensors, rest)
        except (OSError, RuntimeError) as error:
            cause = error.__cause__ or error.__context__ or error
            raise MmattnError(f"{path}: the checkpoint cannot be written ({first_line(cause)})") from None
        from_first(lambda: checkpoint_io.put(part, path))

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        path, checkpoint_io = Path(checkpoint_path), self.checkpoint_io
        assert isinstance(checkpoint_io, AtomicCheckpointIO)
        if from_first(path.is_dir):
            return self._load_parts(path)
        whole: list[State] = []

        def read() -> State:
            whole.append(checkpoint_io.read(path))
            return {name: value for name, value in whole[0].items() if name not in (WEIGHTS, OPTIMIZERS)}

        rest = from_first(read)
        weights, states = (whole[0][WEIGHTS], whole[0][OPTIMIZERS]) if whole else ({}, [{}] * len(self.optimizers))
        if digest := rest.pop(LEFT_OUT, None):
            assert isinstance(self.lightning_module, TrainingModule)
            weights = weights | gathered(self.lightning_module.model, digest)
        self._set(weights, states, from_first_process=True)
        return rest

    def _load_parts(self, path: Path) -> State:
        rest = from_first(lambda: read_rest(path))
        own = [self.optimizer_state(optimizer) for optimizer in self.optimizers]
        tensors = flatten(self.lightning_module_state_dict(), own)
        read_parts(path, tensors)
        self._set(*unflatten(tensors, rest[OPTIMIZERS]), from_first_process=False)
        return {name: value for name, value in rest.items() if name != OPTIMIZERS}

    def _set(self, weights: State, states: list[State], from_first_process: bool) -> None:
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            set_model_state_dict,
            set_optimizer_state_dict,
        )

        assert self.model is not None
        how = StateDictOptions(full_state_dict=from_first_process, broadcast_from_rank0=from_first_process)
        set_model_state_dict(self.model, weights, options=how)
        for optimizer, state in zip(self.optimizers, states, strict=True):
            by_name = named(state, optimizer, self.model) if state else state
            set_optimizer_state_dict(self.model, optimizer, by_name, options=how)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Sharded and by name; or whole on rank 0, as one process would have it."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        assert self.model is not None
        optimizer = getattr(optimizer, "_optimizer", optimizer)
        how = StateDictOptions(full_state_dict=not self.parts, cpu_offload=True)
        state: State = dict(get_optimizer_state_dict(self.model, optimizer, options=how))
        return state if self.parts or not state else numbered(state)
