"""What comes after training: predictions of new rows, exported models."""
