"""What frozen features are worth on a task, and how much of that can be believed."""
