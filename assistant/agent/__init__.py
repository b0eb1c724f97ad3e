"""Programs: a model that works on a task with tools, and what stands between its calls and the machine."""
