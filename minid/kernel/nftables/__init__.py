"""nftables over netlink: messages as pure values, transactions at the edge (``nfnetlink``, ``nf_tables.h``)."""
