// Package restapi serves an agent's HTTP API: the health checks that load balancers poll, the
// endpoints that Patroni's tools and members use (rows R of the interface), the metrics, and
// pgha's own endpoints under /pgha/.
//
// It decides nothing and changes nothing itself. Health checks answer from the last State that
// the agent published and from two atomic reads, Now and LeaderUntil; they never run SQL, call
// the consensus store or wait for a lock. Everything else is: decode, one call on Node, encode.
//
// # Where it differs from Patroni, and why
//
//   - HTTP/1.1 with connections that may be kept (R-001 closes each). Clients that speak
//     HTTP/1.0, HAProxy's plain check among them, are answered in kind and closed.
//   - HEAD and OPTIONS carry a Date header; Patroni sends the status line alone.
//   - /primary needs, beyond R-013, that PostgreSQL was not last seen down or in recovery: a new
//     leader answers 200 when its server accepts writes, not when it has won the key.
//   - The state reads "unknown", and checks that need a running server answer 503, when nobody has
//     looked at the server for two ttl: a hung agent must not vouch for its standby.
//   - Health checks, /metrics and /readiness run no SQL; GET /patroni has the agent look
//     at the server anew if the last look is older than 50 ms.
//   - GET /cluster answers 503 when the store can not be read; Patroni drops the connection.
//   - /metrics is sorted by name, and the values of patroni_postgres_state are listed in its HELP
//     line rather than in a comment of its own (R-096).
//   - A change is refused (403) when a browser makes it for a page of another site; a 413 answers
//     a body over 1 MiB; POST /reinitialize also takes the documented spelling from-leader.
//   - POST /sigterm, /citus and /mpp are not served (501).
package restapi
