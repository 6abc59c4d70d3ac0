"""Configuration: typed instantiation, whose code may be named, validation, error messages, fingerprints."""
