//! The state directory: a server's table in an embedded database, and the thread that owns it.
