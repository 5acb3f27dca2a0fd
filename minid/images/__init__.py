"""Images: references, manifests, registries, blobs, layers and their snapshots. Knows nothing of containers."""
