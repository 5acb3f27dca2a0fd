"""Containers: their specification, life cycle, tasks, logs. Knows nothing of HTTP."""
