"""What the panels show, one file a panel: pure functions of the wire types, for the terminal app and the commands."""
