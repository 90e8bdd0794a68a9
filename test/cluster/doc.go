// Package cluster runs whole pgha clusters of real processes for tests, the demonstration and the
// benchmark: agents, PostgreSQL, etcd and HAProxy on loopback addresses, or with every member in a
// network namespace of its own so that links can really be cut.
//
// Its rules:
//
//   - A fault method returns only when the fault is proven: the process is gone, stopped, or no
//     packet gets through. A test whose fault did not happen must fail, not pass.
//   - Nothing waits by sleeping. Every wait names a condition, and when it times out its error
//     carries the cluster as it was then: members, reasons, log tails and the keys in etcd.
//   - What acknowledged a write, and when, is written down by the client (Ledger), and judged by
//     pure functions that have negative tests of their own.
//   - Everything that was started is killed at the end, by process id, also when the test process
//     itself dies; nothing else is.
package cluster
