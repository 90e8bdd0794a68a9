package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgha/pgha/internal/dcs"
	"github.com/pgha/pgha/internal/election"
)

// memberFacts is what a member publishes of itself that changes with time.
type memberFacts struct {
	state     election.MemberState
	role      string
	answering bool
	standby   bool
	tl        election.Timeline
	lsn       election.LSN
	data      string
	leaving   bool
}

// calm leaves out what the heartbeat alone publishes.
func (f memberFacts) calm() memberFacts {
	f.lsn = 0
	return f
}

// memberEcho is what was last published.
type memberEcho struct {
	facts memberFacts
	at    election.Instant
	lease election.LeaseID
	stale bool
	ever  bool
	rev   int64
}

// formKey is all that such a value depends on.
type formKey struct {
	of        memberFacts
	name, inc string
	tags      election.Tags
}

// formsMost bounds how many values are remembered.
const formsMost = 1 << 15

// memberForm is a published value without positions, as text and as the codec reads it.
type memberForm struct {
	value []byte
	read  election.Member
}

func (a *agent) memberFacts() memberFacts {
	f := memberFacts{state: a.pub.state, role: a.roleWord(), answering: a.pub.answering, data: a.local.DataID, leaving: a.leaving}
	if f.answering {
		f.standby, f.tl, f.lsn = a.pub.role == election.RoleStandby, a.pub.tl, a.pub.lsn
	}
	return f
}

// encode is the codec's work.
func (f memberFacts) encode(a *agent) []byte {
	m := dcs.MemberData{
		ConnURL: connURL(a.n.name), APIURL: "http://" + a.n.name + ":8008/patroni", State: f.state, Role: f.role,
		Version: "4.1.4", PghaVersion: "1", Incarnation: a.inc, Tags: publishedTags(a.n.tags, f.leaving), DataID: f.data,
	}
	if f.answering {
		m.Timeline, m.XlogLocation = f.tl, f.lsn
		if f.standby {
			m.ReceiveLSN, m.ReplayLSN = f.lsn, f.lsn
		}
	}
	return dcs.EncodeMember(m)
}

// memberForm gives a form that was published before, by whichever life of whichever world, or makes it.
func (a *agent) memberForm(of memberFacts) *memberForm {
	key := formKey{of: of, name: a.n.name, inc: a.inc, tags: a.n.tags}
	known := a.w.crew.forms
	form := known[key]
	if form == nil {
		value := of.encode(a)
		form = &memberForm{value: value, read: dcs.DecodeMember(dcs.KV{Key: dcs.MemberKey(a.n.name), Value: value})}
		if len(known) >= formsMost {
			clear(known)
		}
		known[key] = form
	}
	return form
}

// member gives the value to publish, and what it reads as: by the codec if this is a new form, and
// now and then otherwise.
func (a *agent) memberValue(f memberFacts) ([]byte, known) {
	form := a.memberForm(f.calm())
	m := form.read
	if f.answering {
		m.XlogLocation = f.lsn
		if f.standby {
			m.ReceiveLSN, m.ReplayLSN = f.lsn, f.lsn
		}
	}
	a.uses++
	if a.uses%codecEvery != 0 {
		return form.value, known{member: &m}
	}
	value := f.encode(a)
	if read := dcs.DecodeMember(dcs.KV{Key: dcs.MemberKey(a.n.name), Value: value}); read != m {
		a.w.fail("codec", a.n, fmt.Sprintf("member written as %s reads %+v, not %+v", value, read, m))
	}
	return value, known{}
}

// publishMember writes members/<name> when its content changed, mere positions at the heartbeat.
func (a *agent) publishMember(v *election.View) {
	if v.Lease == 0 || !v.Store.Seen {
		return
	}
	facts := a.memberFacts()
	stored, present := v.Store.Cluster.Member(v.Self.Name)
	e := &a.member
	// An older write of unknown outcome may have come after the last one.
	missing := !present || stored.Lease != v.Lease || e.rev != 0 && stored.ModRevision > e.rev
	due := e.stale || e.lease != v.Lease || !e.ever || e.facts.calm() != facts.calm() ||
		missing && a.now()-e.at > time.Second ||
		e.facts != facts && a.now()-e.at >= v.Policy.LoopWait
	if !due || slices.Contains(a.busy, publishing) {
		return
	}
	name, lease := v.Self.Name, v.Lease
	value, as := a.memberValue(facts)
	as.calm = !missing && e.ever && e.lease == lease && e.facts.calm() == facts.calm()
	a.onceApart(publishing, func(t *task) error {
		res, err := a.store.applyKnown(t, storeCall, dcs.PutMember(name, lease, value), as)
		if err != nil {
			a.member.at = a.now()
			a.kick.raise()
			return err
		}
		if res.Done {
			a.member = memberEcho{facts: facts, ever: true, lease: lease, at: a.now(), rev: res.Revision}
		}
		return nil
	})
}

const publishing = "publish member"

func publishedTags(t election.Tags, leaving bool) map[string]any {
	m := map[string]any{}
	if leaving {
		m["nosync"] = true
	}
	if t.NoFailover {
		m["nofailover"] = true
	} else if t.FailoverPriority != 1 {
		m["failover_priority"] = t.FailoverPriority
	}
	return m
}

// statusValue is the transaction that publishes the leader's position, and what it reads as.
func (a *agent) statusValue(own int64, st election.Status) (dcs.Txn, known) {
	txn := dcs.WriteStatus(own, st, false)
	if a.uses++; a.uses%codecEvery == 0 {
		return txn, known{calm: true}
	}
	return txn, known{status: &st, calm: true}
}
