"""Distributed training: strategies, collectives, FSDP, SyncBatchNorm."""
