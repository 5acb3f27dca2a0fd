"""The one edge where minid touches the kernel. Functions here know system calls, not containers; they raise
OSError.
"""
