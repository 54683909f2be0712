//! The workers through real sockets: HTTP and TCP, well-behaved peers and others.
