"""Memory bank and queue: embeddings of previous batches."""

from super_selfish.memory.bank import BatchedMemory
from super_selfish.memory.queue import BatchedQueue

__all__ = ["BatchedMemory", "BatchedQueue"]


def __dir__() -> list[str]:
    return sorted(__all__)
