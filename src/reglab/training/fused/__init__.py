"""K jobs that differ only in numbers, trained in one vmapped step."""
