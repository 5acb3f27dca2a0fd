"""Certificates for a daemon and a small team; the one part that needs the `cryptography` library (minid[certs])."""
