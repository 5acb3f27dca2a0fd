"""The operations of the Engine API, one module per noun; each handler's name is the operation's."""
