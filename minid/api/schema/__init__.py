"""Docker's JSON: how domain types are spelled on the wire. One module per noun."""
