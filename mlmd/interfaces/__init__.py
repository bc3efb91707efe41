"""Other programs' ways of asking for what is here."""
