"""Other people's APIs over Strop's own. Thin: no algorithm lives here."""
