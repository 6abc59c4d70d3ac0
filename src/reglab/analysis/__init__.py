"""From what the runs of a sweep reached to an answer: plain numbers, no torch, no files but per-example ones."""
