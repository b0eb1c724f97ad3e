"""The memory panels: what they show, as pure functions, and how the chat opens them (`tui.panels.open`)."""
