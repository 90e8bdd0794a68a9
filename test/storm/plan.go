package main

import (
	"math/rand/v2"
	"strings"
	"time"
)

// step is one entry of the plan: a quiet time, one or two faults, and how long they last.
type step struct {
	number int
	gap    time.Duration
	// kinds has one fault, or two that begin apart from each other and end together.
	kinds []kind
	apart time.Duration
	hold  time.Duration
	// command: an operator's command comes after this part of the hold; negative: none.
	command float64
	// rng is the source of every further choice of this step.
	rng *rand.Rand
}

// plan gives the steps of a storm, the same ones for the same seed, kinds and ttl. A step does not
// depend on how earlier ones went.
type plan struct {
	seed  uint64
	ttl   time.Duration
	kinds []kind
}

const (
	twoAtOnce    = 0.25 // part of the steps with two faults
	withCommand  = 0.2  // part of the steps with an operator's command in the middle
	longestApart = 1500 * time.Millisecond
)

func (p plan) step(number int) step {
	rng := rand.New(rand.NewPCG(p.seed, uint64(number)))
	st := step{number: number, command: -1, rng: rng}
	st.gap = between(rng, 500*time.Millisecond, 3*time.Second)
	st.kinds = []kind{pick(rng, p.kinds)}
	second, two := pick(rng, p.kinds), rng.Float64() < twoAtOnce
	if two && !st.kinds[0].alone && !second.alone && second.name != st.kinds[0].name {
		st.kinds = append(st.kinds, second)
	}
	st.apart = between(rng, 0, longestApart)
	st.hold = p.hold(rng)
	moment, commanded := rng.Float64(), rng.Float64() < withCommand
	if commanded && !st.kinds[0].alone {
		st.command = moment
	}
	return st
}

// hold draws how long a fault lasts: shorter than any deadline, about the lease, or far longer.
func (p plan) hold(rng *rand.Rand) time.Duration {
	class, length := rng.IntN(3), rng.Float64()
	from, to := [...]float64{0.04, 0.7, 1.5}[class], [...]float64{0.5, 1.5, 3}[class]
	return time.Duration((from + (to-from)*length) * float64(p.ttl))
}

// pick draws a kind by weight.
func pick(rng *rand.Rand, kinds []kind) kind {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	n := rng.IntN(total)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	return kinds[len(kinds)-1]
}

func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64(to-from)))
}

// names of the kinds of a step, joined for people.
func (st step) name() string {
	var all []string
	for _, k := range st.kinds {
		all = append(all, k.name)
	}
	return strings.Join(all, " + ")
}
