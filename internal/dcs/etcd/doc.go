// Package etcd implements dcs.Store on etcd's v3 protocol. It is the only package that talks to etcd
// as a client.
//
// It uses one client of go.etcd.io/etcd/client/v3 for each endpoint, for the connection, and the
// protocol's own stubs on that connection for the requests, not the convenience calls on top of
// them. What a lease-holder needs is exactly what those hide:
// which endpoint answered and when, whether a write was put on the wire at all, one keep-alive per
// answer, a watch that says when it is broken. (The client's own keep-alive loops without a pause on a
// refused connection, its watch repairs itself in silence, and a request sticks to a connection
// that is half open.)
//
// # Who is asked
//
// Endpoints have an order; the one that answered best is first, and idle ones have no connection.
// Reads, keep-alives and grants are hedged: without an answer after a short delay the next endpoint
// is asked as well, and the first good answer wins. The slow one goes to the end of the order. So
// one endpoint that accepts requests and never answers costs one hedge delay, once.
//
// A write is sent to a second endpoint in two cases only. Either it was certainly not carried out by
// the first: it was not put on the wire, or etcd refused it before proposing it. Or it can be
// carried out at most once however often it is sent (dcs.Once): it demands the present revision of
// a key that it writes, and revisions never repeat. The order of answers matters then: "done" from
// any copy is the truth, while "a condition did not hold" from one copy may be the work of
// another, so it counts only when every other copy is known to have had no effect. A transaction
// that demands only that a key is absent is never sent twice: absence can come back, and a copy that
// lay in a frozen server would take the key a second time, long after.
//
// # What an answer must bear
//
// Every answer carries etcd's cluster id and raft term. An answer of an older term than one already
// seen comes from a server that has been left behind, and is treated as a failed request (row D-11).
//
// LeaseGone reads linearizably on one endpoint, and then asks that same endpoint for the leases that
// it has applied. The usual question (time to live) is answered by whichever server believes that
// it leads, from a state that may be behind, and could so call a young lease gone.
package etcd
