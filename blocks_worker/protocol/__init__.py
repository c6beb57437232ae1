"""What may be said and what may follow: messages, names and state tables, without sockets, threads or clocks."""
