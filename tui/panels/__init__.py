"""The memory panels: what they show, as pure functions; `tui.commands.panels` opens them."""
