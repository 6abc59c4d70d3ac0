"""Configuration: typed instantiation, trusted packages, validation, messages, fingerprints."""
