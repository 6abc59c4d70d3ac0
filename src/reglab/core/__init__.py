"""Shared basics without torch: errors, secrets, signals, file writes, markdown, score directions."""
