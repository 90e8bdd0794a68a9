package cluster

import (
	"context"
	"time"
)

// Witness writes to every server directly and without end, over sessions that it never gives up:
// the client of the old primary who has not heard that there is a new one. A standby refuses its
// writes; two servers that both take them are a split brain, whoever the proxy points to.
type Witness struct {
	Writers []*Writer
	Ledger  *Ledger // of all servers together
}

// StartWitness opens the sessions. The ledger's table must exist already.
func (c *Cluster) StartWitness(ctx context.Context, hz int) (*Witness, error) {
	w := &Witness{Ledger: NewLedger()}
	for _, m := range c.Members {
		writer, err := c.StartWriter(ctx, WriterOptions{
			DSN: m.DSN(), Hz: hz, Sessions: 1, Unreachable: true,
			// Longer than any fault: what was sent before a freeze must be heard after the thaw.
			StatementTimeout: 10 * time.Minute, Retry: 20 * time.Millisecond,
			Ledger: w.Ledger,
		})
		if err != nil {
			w.Stop()
			return nil, err
		}
		w.Writers = append(w.Writers, writer)
	}
	return w, nil
}

// Stop ends all sessions and returns the judgement over all servers.
func (w *Witness) Stop() Report {
	for _, writer := range w.Writers {
		writer.Stop()
	}
	return w.Ledger.Report()
}
