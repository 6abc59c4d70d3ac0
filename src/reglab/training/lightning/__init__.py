"""Jobs that train a user's LightningModule in Lightning's own loop (``model=lightning``)."""
