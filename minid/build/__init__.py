"""Building images: the Dockerfile language, the context, the cache, the execution of steps. Knows nothing of HTTP."""
