"""Models that a server runs: what is sent to it and what comes back. No torch in here."""
