"""What may be said and what may follow: messages, names, state tables; no sockets, threads or clocks."""
