"""An MLflow store: by MLflow's client, and by plain SQL where it is a SQLite file of a known version."""
