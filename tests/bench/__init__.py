"""The benchmark behind ``scripts/bench``: minid, docker and podman side by side in one run, interleaved, medians."""
