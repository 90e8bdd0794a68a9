package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/pgha/pgha/internal/election"
)

// Verdict is the outcome of comparing own history with a source's.
type Verdict uint8

// The verdicts. Only VerdictStreamable allows to follow without more, only VerdictNeedsRewind to rewind.
const (
	VerdictUnknown         Verdict = iota // could not be told: do nothing to the data
	VerdictStreamable                     // own WAL is a prefix of the source's
	VerdictNeedsRewind                    // own WAL left the source's history; pg_rewind can mend it
	VerdictNeedsClone                     // own WAL left it in a way that pg_rewind does not see
	VerdictDifferentSystem                // another system identifier: never to be mixed
)

func (v Verdict) String() string {
	names := []string{"unknown", "streamable", "needs rewind", "needs clone", "different system"}
	if int(v) < len(names) {
		return names[v]
	}
	return "unknown"
}

// Divergence compares the local history with a source's.
type Divergence struct {
	Verdict Verdict
	Why     string // one sentence

	// The positions that were compared.
	LocalTimeline, SourceTimeline election.Timeline
	LocalLSN, SourceLSN           election.LSN
	SourceSystemID                uint64
	SourceHistory                 election.History
	SourceInRecovery              election.Tristate

	// ForkLSN is where own history and the source's part, on ForkTimeline, their last common one.
	ForkTimeline election.Timeline
	ForkLSN      election.LSN
	// LostBytes of own WAL lie beyond the fork and would be given up by a rewind or clone.
	LostBytes int64
	// LostTransactions counts the commits among them; -1: not counted. LostAtLeast is set when
	// counting stopped early.
	LostTransactions int
	LostAtLeast      bool
	// Proven is Yes if the end of own WAL was compared with the source's, byte by byte, and is
	// the same; No if it differs; Unknown if the source no longer has it or could not be asked.
	Proven election.Tristate
}

// localPosition is how far the local server's own WAL goes.
type localPosition struct {
	SystemID uint64
	Timeline election.Timeline
	LSN      election.LSN
	History  election.History
	// Clean says that the position is the end of a primary's shutdown checkpoint.
	Clean bool
}

// lostScanLimit bounds the counting of lost transactions.
const lostScanLimit = 1 << 30

// endScanLimit bounds the search for the end of the local WAL after a crash: more than any
// max_wal_size in use.
const endScanLimit = 64 << 30

// Divergence compares the end of the local WAL with the source's history (rows H-081, H-082).
// The local position is read first, so a source that is ahead cannot look as if it were behind.
// The server may run or be down. Unknown comes with its reason in Why, and an error where
// something could not be read.
func (s *Server) Divergence(ctx context.Context, src Source) (Divergence, error) {
	local, err := s.localPosition(ctx)
	if err != nil {
		return Divergence{Why: "the end of the local WAL is not known", LostTransactions: -1}, fmt.Errorf("divergence: local: %w", err)
	}
	source, err := s.IdentifySource(ctx, src)
	if err != nil {
		return Divergence{Why: "the source could not be asked", LostTransactions: -1}, fmt.Errorf("divergence: %w", err)
	}
	d := compareHistories(local, source)
	if d.Verdict == VerdictStreamable || d.Verdict == VerdictNeedsClone && d.LostBytes == 0 {
		s.prove(ctx, src, local, &d)
	}
	if d.LostBytes > 0 {
		s.countLost(&d, local)
	}
	return d, nil
}

// compareHistories decides from two positions. A history is the whole list of timelines and
// switch points: two servers that both made "timeline 2" apart share only what lies before.
func compareHistories(local localPosition, source SourceInfo) Divergence {
	d := Divergence{
		LocalTimeline: local.Timeline, SourceTimeline: source.Timeline,
		LocalLSN: local.LSN, SourceLSN: source.LSN, SourceSystemID: source.SystemID,
		SourceHistory: source.History, SourceInRecovery: source.InRecovery, LostTransactions: -1,
	}
	if local.SystemID != source.SystemID {
		d.Verdict = VerdictDifferentSystem
		d.Why = fmt.Sprintf("the system identifiers differ: here %d, there %d", local.SystemID, source.SystemID)
		return d
	}
	own, its := spans(local.Timeline, local.History), spans(source.Timeline, source.History)
	common := commonSpans(own, its)
	if common < 0 {
		d.Verdict, d.Why = VerdictNeedsClone, "the histories have no timeline in common"
		d.LostBytes = int64(local.LSN)
		return d
	}
	ownLast, itsLast := common == len(own)-1, common == len(its)-1
	d.ForkTimeline = own[common].Timeline
	switch {
	case ownLast && itsLast:
		sameTimeline(&d)
	case ownLast:
		d.ForkLSN = its[common+1].Begin
		ancestorTimeline(&d, local)
	case itsLast:
		d.ForkLSN = own[common+1].Begin
		diverged(&d)
		if d.ForkLSN > source.LSN {
			d.ForkLSN, d.Verdict = source.LSN, VerdictNeedsClone
			d.LostBytes = int64(local.LSN - d.ForkLSN)
			d.Why = fmt.Sprintf("this server left timeline %d after a point that the source has not reached", d.ForkTimeline)
		}
	default:
		d.ForkLSN = min(own[common+1].Begin, its[common+1].Begin)
		diverged(&d)
	}
	return d
}

// spans lists timelines with where they begin, oldest first.
func spans(tl election.Timeline, h election.History) []walSpan {
	var out []walSpan
	begin := election.LSN(0)
	for _, e := range h {
		out = append(out, walSpan{e.Timeline, begin})
		begin = e.Switch
	}
	return append(out, walSpan{tl, begin})
}

func sameTimeline(d *Divergence) {
	d.ForkLSN = d.LocalLSN
	if d.LocalLSN <= d.SourceLSN || d.SourceInRecovery != election.No {
		d.Verdict, d.Why = VerdictStreamable, "both are on the same history"
		return
	}
	// A primary has everything that it ever sent. One that has less is not what it was.
	d.Verdict, d.ForkLSN = VerdictNeedsClone, d.SourceLSN
	d.LostBytes = int64(d.LocalLSN - d.SourceLSN)
	d.Why = fmt.Sprintf("this server is %d bytes ahead of a primary on the same timeline, which pg_rewind would not see", d.LostBytes)
}

// ancestorTimeline: own timeline is one that the source left at the fork.
func ancestorTimeline(d *Divergence, local localPosition) {
	switch {
	case d.LocalLSN == d.ForkLSN:
		d.Verdict, d.Why = VerdictStreamable, fmt.Sprintf("own WAL ends exactly where the source left timeline %d", d.ForkTimeline)
	case d.LocalLSN > d.ForkLSN:
		diverged(d)
	case local.Clean:
		// Nobody but this server wrote on its timeline, and it ends before the point up to which
		// the source has it: what the source has there is not from this data directory.
		d.Verdict = VerdictNeedsClone
		d.Why = fmt.Sprintf("a clean shutdown at %s ends before the source left timeline %d at %s: this is an older copy of the data", d.LocalLSN, d.ForkTimeline, d.ForkLSN)
	default:
		d.Verdict, d.Why = VerdictStreamable, fmt.Sprintf("own WAL ends before the source left timeline %d", d.ForkTimeline)
	}
}

func diverged(d *Divergence) {
	d.LostBytes = max(0, int64(d.LocalLSN)-int64(d.ForkLSN))
	d.Verdict = VerdictNeedsRewind
	d.Why = fmt.Sprintf("own WAL goes %d bytes beyond %s, where the histories part on timeline %d", d.LostBytes, d.ForkLSN, d.ForkTimeline)
	if d.LocalTimeline == d.SourceTimeline {
		d.Verdict = VerdictNeedsClone
		d.Why += fmt.Sprintf("; both call their timeline %d, which pg_rewind takes for the same", d.LocalTimeline)
	}
}

// localPosition finds the end of the local WAL, from the running server or from the files.
func (s *Server) localPosition(ctx context.Context) (localPosition, error) {
	if err := s.requireStopped(); err != nil {
		return s.runningPosition(ctx)
	}
	c, err := s.Control()
	if err != nil {
		return localPosition{}, err
	}
	// After a crash soon after a promotion the last checkpoint is still on the old timeline.
	p := localPosition{SystemID: c.SystemID, Timeline: max(c.Timeline, c.MinRecoveryEndTimeline)}
	if p.History, err = s.TimelineHistory(p.Timeline); err != nil {
		return localPosition{}, err
	}
	if c.State == ControlShutDown {
		p.Clean = true
		p.LSN, err = s.ShutdownCheckpointEnd(c)
		return p, err
	}
	p.LSN, err = s.endOfWAL(c, p)
	return p, err
}

// endOfWAL finds where valid WAL ends after anything but a clean shutdown of a primary. What a
// standby received but did not replay counts too: it would be replayed at the next start.
func (s *Server) endOfWAL(c ControlData, p localPosition) (election.LSN, error) {
	r, err := newWALReader(s.inData("pg_wal"), c, p.Timeline, p.History)
	if err != nil {
		return 0, err
	}
	from := max(c.MinRecoveryEnd, c.Checkpoint)
	scan, err := r.scan(from, 0, endScanLimit)
	switch {
	case err == nil && scan.Stopped:
		return 0, fmt.Errorf("more than %d bytes of WAL after %s", int64(endScanLimit), from)
	case err == nil:
		return scan.End, nil
	case from == c.MinRecoveryEnd && (errors.Is(err, errNoRecord) || errors.Is(err, errNoSegment)):
		return from, nil // nothing follows what was replayed
	default:
		return 0, fmt.Errorf("end of WAL after %s: %w", from, err)
	}
}

func (s *Server) runningPosition(ctx context.Context) (localPosition, error) {
	o, err := s.Observe(ctx)
	if err != nil {
		return localPosition{}, err
	}
	return s.positionOf(o)
}

// positionOf is the end of the log of a server that was observed. A standby's pg_control may name an
// older timeline than the log that it holds, and without a walreceiver nothing else names it.
func (s *Server) positionOf(o Observation) (localPosition, error) {
	p := localPosition{SystemID: o.SystemID, Timeline: o.Timeline, LSN: max(o.FlushLSN, o.ReceiveLSN, o.ReplayLSN)}
	if o.Timeline == 0 || p.LSN == 0 {
		return p, errors.New("the running server does not know its timeline or position yet")
	}
	if o.Role == election.RoleStandby {
		tl, err := s.WALTimeline(p.LSN)
		if err != nil {
			return p, err
		}
		p.Timeline = max(p.Timeline, tl)
	}
	var err error
	p.History, err = s.TimelineHistory(p.Timeline)
	return p, err
}

// countLost counts commits beyond the fork, as far as the local WAL can be read.
func (s *Server) countLost(d *Divergence, local localPosition) {
	c, err := s.Control()
	if err != nil {
		return
	}
	r, err := newWALReader(s.inData("pg_wal"), c, local.Timeline, local.History)
	if err != nil {
		return
	}
	scan, err := r.scan(d.ForkLSN, d.ForkLSN, lostScanLimit)
	if err != nil {
		return
	}
	d.LostTransactions, d.LostAtLeast = scan.Commits, scan.Stopped
}
