"""A client of the registry HTTP API (OCI distribution-spec), pull side.

``endpoint`` says how a registry may be reached, ``challenge`` and ``authorizer`` how to authenticate,
``transport`` sends single requests, ``client`` knows manifests, blobs and tags.
"""
