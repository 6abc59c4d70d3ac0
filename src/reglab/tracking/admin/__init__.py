"""Runs after they ran: found by their folders, sent to their stores, cleaned, shown in the dashboard."""
