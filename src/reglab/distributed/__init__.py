"""Several ranks, and models in parts: strategies, collectives, FSDP, SyncBatchNorm."""
