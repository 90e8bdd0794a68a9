package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Kill9 sends SIGKILL to the member's processes of the given kinds at once and returns when they
// are gone. At least one process must have been killed: a kill of nothing is an error.
func (m *Member) Kill9(ctx context.Context, kinds Kind) error {
	if kinds == Node {
		return m.PowerOff(ctx)
	}
	victims, err := m.Processes(kinds)
	if err != nil {
		return err
	}
	if len(victims) == 0 {
		return fmt.Errorf("kill %s of %s: no such process", kinds, m.Name)
	}
	if err := killAll(ctx, victims); err != nil {
		return fmt.Errorf("kill %s of %s: %w", kinds, m.Name, err)
	}
	return m.reap(ctx, kinds)
}

// reap waits until this process knows that its own child is gone, so that Start starts again.
func (m *Member) reap(ctx context.Context, kinds Kind) error {
	if kinds&Agent != 0 && m.agent.running() {
		return m.agent.wait(ctx)
	}
	return nil
}

// PowerOff kills everything of the member at once, as losing its power would: all are stopped
// first, so that none sees another die. Returns when nothing of it is left.
func (m *Member) PowerOff(ctx context.Context) error {
	killed, err := sweep(ctx, func() ([]Process, error) { return m.Processes(Node) })
	if err != nil {
		return fmt.Errorf("power off %s: %w", m.Name, err)
	}
	if killed == 0 {
		return fmt.Errorf("power off %s: nothing of it was running", m.Name)
	}
	m.frozen = nil
	return m.reap(ctx, Agent)
}

// Freeze stops (SIGSTOP) the member's processes of the given kinds and returns when none of their
// threads runs. With Node it is the machine that stands still; its kernel goes on acknowledging
// packets, as that of a starved machine does.
func (m *Member) Freeze(ctx context.Context, kinds Kind) error {
	if len(m.frozen) > 0 {
		return fmt.Errorf("freeze %s: already frozen", m.Name)
	}
	// Twice: what was being forked during the first look is caught by the second.
	for round := range 2 {
		victims, err := m.Processes(kinds)
		if err != nil {
			return err
		}
		if round == 0 && len(victims) == 0 {
			return fmt.Errorf("freeze %s of %s: no such process", kinds, m.Name)
		}
		if err := stopAll(ctx, victims); err != nil {
			return fmt.Errorf("freeze %s of %s: %w", kinds, m.Name, err)
		}
		m.frozen = victims
	}
	return nil
}

// Thaw lets a frozen member run again.
func (m *Member) Thaw(ctx context.Context) error {
	if len(m.frozen) == 0 {
		return fmt.Errorf("thaw %s: it is not frozen", m.Name)
	}
	if err := contAll(ctx, m.frozen); err != nil {
		return fmt.Errorf("thaw %s: %w", m.Name, err)
	}
	m.frozen = nil
	return nil
}

// ThawOnly lets the processes of some kinds run again, and the others stand still until Thaw.
func (m *Member) ThawOnly(ctx context.Context, kinds Kind) error {
	postmaster := m.PostmasterPID()
	var some, others []Process
	for _, p := range m.frozen {
		if m.kind(p, postmaster)&kinds != 0 {
			some = append(some, p)
		} else {
			others = append(others, p)
		}
	}
	if len(some) == 0 {
		return fmt.Errorf("thaw %s of %s: no such process", kinds, m.Name)
	}
	if err := contAll(ctx, some); err != nil {
		return fmt.Errorf("thaw %s of %s: %w", kinds, m.Name, err)
	}
	m.frozen = others
	return nil
}

// Frozen is true if every process of the last Freeze that still lives is stopped.
func (m *Member) Frozen() bool {
	for _, p := range m.frozen {
		if p.Alive() && !p.Stopped() {
			return false
		}
	}
	return len(m.frozen) > 0
}

// From says which links a partition cuts.
type From uint8

// What a member can be cut off from.
const (
	// FromEveryone: no packet in or out, clients included.
	FromEveryone From = iota
	// FromEtcd: the etcd members only.
	FromEtcd
	// FromMembers: the other members only, etcd and clients stay reachable.
	FromMembers
)

func (f From) String() string {
	return [...]string{"everyone", "etcd", "the other members"}[f]
}

// Partition cuts links without a sign to anybody: packets vanish. It returns when it is proven
// that none gets through. Needs network namespaces.
func (m *Member) Partition(ctx context.Context, from From) error {
	if m.host == nil {
		return fmt.Errorf("partition %s: the cluster is not in network namespaces", m.Name)
	}
	var err error
	switch from {
	case FromEveryone:
		err = m.c.fabric.setPort(m.host, portDisabled)
	case FromEtcd:
		for _, e := range m.c.Etcd.Members {
			if e.Address != m.Address {
				err = m.host.drop(e.Address)
			}
			if err != nil {
				break
			}
		}
	case FromMembers:
		for _, other := range m.c.Others(m) {
			if err = m.host.drop(other.Address); err != nil {
				break
			}
		}
	}
	if err != nil {
		return fmt.Errorf("partition %s from %s: %w", m.Name, from, err)
	}
	return m.proveCut(ctx, from)
}

// peers are host:port of something that listens (or should) on the far side of a cut.
func (m *Member) peers(from From) []string {
	var out []string
	if from != FromMembers {
		for _, e := range m.c.Etcd.Members {
			if e.Address != m.Address {
				out = append(out, e.endpoint())
			}
		}
	}
	if from != FromEtcd {
		for _, other := range m.c.Others(m) {
			out = append(out, other.API(), other.PG())
		}
	}
	return out
}

// proveCut tries every far address from the member's side. Silence proves the cut; an answer of
// any kind, a refusal too, is a packet that came back.
func (m *Member) proveCut(ctx context.Context, from From) error {
	for _, address := range m.peers(from) {
		if err := m.silent(ctx, address); err != nil {
			return fmt.Errorf("partition %s from %s is not in effect: %w", m.Name, from, err)
		}
	}
	return nil
}

const silence = 100 * time.Millisecond

func (m *Member) silent(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	conn, err := m.namespace().dial(ctx, "tcp", address)
	if err == nil {
		return fmt.Errorf("connected to %s%s", address, closeNote(conn.Close()))
	}
	var timeout net.Error
	if ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return nil
	}
	return fmt.Errorf("%s answered: %w", address, err)
}

func closeNote(err error) string {
	if err != nil {
		return " (close: " + err.Error() + ")"
	}
	return ""
}

// Heal undoes every partition of the member, and returns when something on the other side of the
// switch answers it again (a refused connection is an answer).
func (m *Member) Heal(ctx context.Context) error {
	if m.host == nil {
		return fmt.Errorf("heal %s: the cluster is not in network namespaces", m.Name)
	}
	if err := m.c.fabric.setPort(m.host, portForwarding); err != nil {
		return fmt.Errorf("heal %s: %w", m.Name, err)
	}
	if err := m.host.undropAll(); err != nil {
		return fmt.Errorf("heal %s: %w", m.Name, err)
	}
	// The clients' namespace has no listener on this port, but its kernel answers: refused.
	probe := m.c.client.address + ":1"
	state, ok := poll(ctx, proofTimeout, func(ctx context.Context) (bool, string) {
		err := m.silent(ctx, probe)
		return err != nil, "no answer from " + probe
	})
	if !ok {
		return fmt.Errorf("heal %s: %s", m.Name, state)
	}
	return nil
}

// Repair undoes every fault of the run that can be undone: it thaws, heals, and starts what does
// not run. It does not wait for health.
func (c *Cluster) Repair(ctx context.Context) error {
	for _, m := range c.Members {
		if len(m.frozen) > 0 {
			if err := m.Thaw(ctx); err != nil {
				return err
			}
		}
		if m.host != nil {
			if err := m.Heal(ctx); err != nil {
				return err
			}
		}
	}
	if err := c.Etcd.Restore(ctx); err != nil {
		return err
	}
	for _, m := range c.Members {
		if m.Running() {
			continue
		}
		if err := m.WriteConfig(); err != nil {
			return err
		}
	}
	return c.StartAll()
}

// Kill sends SIGKILL to an etcd member and returns when it is gone.
func (e *EtcdMember) Kill(ctx context.Context) error {
	victims, err := e.processes()
	if err != nil {
		return err
	}
	if len(victims) == 0 {
		return fmt.Errorf("kill etcd member %s: it does not run", e.Name)
	}
	if err := killAll(ctx, victims); err != nil {
		return fmt.Errorf("kill etcd member %s: %w", e.Name, err)
	}
	e.frozen = nil
	if e.proc.running() {
		return e.proc.wait(ctx)
	}
	return nil
}

// Freeze stops an etcd member.
func (e *EtcdMember) Freeze(ctx context.Context) error {
	victims, err := e.processes()
	if err != nil {
		return err
	}
	if len(victims) == 0 {
		return fmt.Errorf("freeze etcd member %s: it does not run", e.Name)
	}
	e.frozen = victims
	return stopAll(ctx, victims)
}

// Thaw lets a frozen etcd member run again.
func (e *EtcdMember) Thaw(ctx context.Context) error {
	defer func() { e.frozen = nil }()
	return contAll(ctx, e.frozen)
}

// KillLeader kills the member that leads and tells which it was.
func (e *Etcd) KillLeader(ctx context.Context) (*EtcdMember, error) {
	leader, err := e.Leader(ctx)
	if err != nil {
		return nil, err
	}
	return leader, leader.Kill(ctx)
}

// KillMajority kills so many members that the rest cannot decide, the leader among them.
func (e *Etcd) KillMajority(ctx context.Context) ([]*EtcdMember, error) {
	victims, err := e.majorityOf(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range victims {
		if err := m.Kill(ctx); err != nil {
			return victims, err
		}
	}
	return victims, e.proveSilent(ctx)
}

// FreezeMajority is KillMajority without the restart of data and connections.
func (e *Etcd) FreezeMajority(ctx context.Context) ([]*EtcdMember, error) {
	victims, err := e.majorityOf(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range victims {
		if err := m.Freeze(ctx); err != nil {
			return victims, err
		}
	}
	return victims, e.proveSilent(ctx)
}

func (e *Etcd) majorityOf(ctx context.Context) ([]*EtcdMember, error) {
	leader, err := e.Leader(ctx)
	if err != nil {
		return nil, err
	}
	victims := []*EtcdMember{leader}
	for _, m := range e.Members {
		if m != leader && len(victims) < len(e.Members)/2+1 {
			victims = append(victims, m)
		}
	}
	return victims, nil
}

// proveSilent shows that no linearizable read is answered any more.
func (e *Etcd) proveSilent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, err := e.client.Get(ctx, "proof"); err == nil {
		return fmt.Errorf("etcd still answers reads without its majority")
	}
	return nil
}

// Restore starts what was killed, thaws what was frozen, and waits until all answer.
func (e *Etcd) Restore(ctx context.Context) error {
	for _, m := range e.Members {
		if len(m.frozen) > 0 {
			if err := m.Thaw(ctx); err != nil {
				return err
			}
			continue
		}
		if err := m.Start(ctx); err != nil {
			return err
		}
	}
	for _, m := range e.Members {
		if err := m.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}
