"""What a sweep showed: table, verdict, figures, one HTML page. Reads what tracking stored."""
