"""What every package may import: errors, secrets, signals, atomic files, markdown, metric direction. No torch."""
