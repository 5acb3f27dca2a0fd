"""The Docker Engine HTTP API: decodes requests, calls a service, encodes what it returns. Decides nothing."""
