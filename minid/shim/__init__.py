"""The processes around a container: forkserver, shim and init. Standard library only; see
docs/architecture.md.
"""
