"""MLflow stores, by MLflow's client, or by plain SQL for SQLite files of a known version."""
