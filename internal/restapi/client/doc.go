// Package client talks to the HTTP API of agents: pgha's own and Patroni's. Agents use it to ask
// their peers, pghactl to give orders. It keeps no connection open between requests, because a
// connection that outlived a network failure would stall the first question after it.
package client
