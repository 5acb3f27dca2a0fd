"""`minictl build`: the client's half of building an image; the daemon reads the Dockerfile."""
