"""``reglab.TransformersCallback``: regularize and measure what ``transformers.Trainer`` trains."""
