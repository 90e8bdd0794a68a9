package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/pgha/pgha/internal/config"
)

// configProblem is something in a dynamic configuration that makes no sense.
type configProblem struct {
	keys   []string // the settings it is about
	what   string   // names field and value
	remedy string
	mild   bool // allowed, but probably not meant
}

// timing are the settings that bound one another.
type timing struct{ ttl, loopWait, retryTimeout float64 }

// Least values in seconds, and defaults, of pgha. A Patroni raises smaller ones to its own.
const (
	minTTL, minLoopWait, minRetryTimeout             = 3, 1, 1
	patroniMinTTL                                    = 20
	defaultTTL, defaultLoopWait, defaultRetryTimeout = 10, 3, 3
)

// configProblems looks for what a running cluster would suffer from. It is stricter than the agents'
// own reading, which must go on with whatever is stored.
func configProblems(c *cluster, doc map[string]any) []configProblem {
	var out []configProblem
	t := timing{defaultTTL, defaultLoopWait, defaultRetryTimeout}
	number := func(name string, least float64, into *float64) bool {
		value, present := doc[name]
		if !present {
			return true
		}
		n, ok := asNumber(value)
		switch {
		case !ok:
			out = append(out, configProblem{
				keys: []string{name}, what: fmt.Sprintf("%s: %s is no number of seconds", name, showValue(value)),
				remedy: fmt.Sprintf("write a plain number, such as %s: %v", name, *into),
			})
		case n < least:
			out = append(out, configProblem{
				keys: []string{name}, what: fmt.Sprintf("%s: %s is too small", name, showValue(value)),
				remedy: fmt.Sprintf("the least value is %v seconds", least),
			})
		default:
			*into = n
			return true
		}
		return false
	}
	good := number("ttl", minTTL, &t.ttl)
	good = number("loop_wait", minLoopWait, &t.loopWait) && good
	good = number("retry_timeout", minRetryTimeout, &t.retryTimeout) && good
	if good {
		out = append(out, timingProblems(c, t)...)
	}
	out = append(out, byteProblems(doc)...)
	return append(out, agentProblems(doc, out)...)
}

// timingProblems are the relations. The lease is renewed every third of ttl; a heartbeat or a single
// failed request must not use up what is left of it.
func timingProblems(c *cluster, t timing) []configProblem {
	keys := []string{"ttl", "loop_wait", "retry_timeout"}
	sum := t.loopWait + 2*t.retryTimeout
	if sum <= t.ttl {
		return patroniTiming(c, t)
	}
	p := configProblem{
		keys: keys,
		what: fmt.Sprintf("ttl: %v is less than loop_wait + 2 * retry_timeout = %v + 2 * %v = %v", t.ttl, t.loopWait, t.retryTimeout, sum),
		remedy: fmt.Sprintf("raise ttl to %v, or lower retry_timeout to %v", sum,
			max(minRetryTimeout, float64(int((t.ttl-t.loopWait)/2)))),
	}
	if t.loopWait+2*minRetryTimeout > t.ttl {
		p.remedy = fmt.Sprintf("raise ttl to %v, or lower loop_wait and retry_timeout", sum)
	}
	return append([]configProblem{p}, patroniTiming(c, t)...)
}

// patroniTiming warns while members run under Patroni, which does not go below 20 seconds.
func patroniTiming(c *cluster, t timing) []configProblem {
	if t.ttl >= patroniMinTTL {
		return nil
	}
	others := c.patroniMembers()
	if len(others) == 0 {
		return nil
	}
	return []configProblem{{
		keys: []string{"ttl"}, mild: true,
		what:   fmt.Sprintf("ttl: %v is below the least value of the members that Patroni runs (%s)", t.ttl, strings.Join(others, ", ")),
		remedy: fmt.Sprintf("they use %d until they are moved to pgha", patroniMinTTL),
	}}
}

// byteProblems finds sizes with a unit, which agents silently replace by the default (row C-145).
func byteProblems(doc map[string]any) []configProblem {
	var out []configProblem
	for _, name := range []string{"maximum_lag_on_failover", "maximum_lag_on_syncnode"} {
		value, present := doc[name]
		if !present {
			continue
		}
		n, ok := asNumber(value)
		if ok && n == float64(int64(n)) {
			continue
		}
		remedy := "write the plain number of bytes"
		if text, isText := value.(string); isText {
			if bytes, err := humanize.ParseBytes(binaryUnit(text)); err == nil {
				remedy = fmt.Sprintf("write the plain number of bytes: %s: %d", name, bytes)
			}
		}
		out = append(out, configProblem{keys: []string{name}, what: fmt.Sprintf("%s: %s is no number of bytes", name, showValue(value)), remedy: remedy})
	}
	return out
}

// binaryUnit makes "1MB" mean what it means to PostgreSQL.
func binaryUnit(text string) string {
	trimmed := strings.TrimSpace(text)
	upper := strings.ToUpper(trimmed)
	if len(upper) > 1 && strings.HasSuffix(upper, "B") && strings.ContainsAny(upper[len(upper)-2:len(upper)-1], "KMGT") {
		return trimmed[:len(trimmed)-1] + "iB"
	}
	return trimmed
}

// agentProblems is what an agent would say to the configuration, as far as known does not say it
// already. What makes it refuse the whole is serious, the rest only means that a value is not used.
func agentProblems(doc map[string]any, known []configProblem) []configProblem {
	said := map[string]bool{}
	for _, p := range known {
		for _, key := range p.keys {
			said[key] = true
		}
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return []configProblem{{what: err.Error(), remedy: "write values that JSON has"}}
	}
	var out []configProblem
	_, warnings, err := config.ParseDynamic(raw)
	if fatal, ok := errors.AsType[config.Problems](err); ok {
		for _, p := range fatal {
			if key := topKey(p.Path); !said[key] {
				out = append(out, configProblem{keys: []string{key}, what: fmt.Sprintf("%s: %s is not understood", p.Path, p.Value), remedy: p.Want})
			}
		}
	}
	for _, w := range warnings {
		if key := topKey(w.Path); !said[key] && !timingKeys(key) {
			out = append(out, configProblem{keys: []string{key}, what: w.String(), remedy: "the agents say so", mild: true})
		}
	}
	return out
}

// timingKeys are those whose relations are checked here in more detail.
func timingKeys(key string) bool {
	return key == "ttl" || key == "loop_wait" || key == "retry_timeout"
}

func topKey(path string) string {
	key, _, _ := strings.Cut(path, ".")
	return key
}

func asNumber(value any) (float64, bool) {
	switch v := value.(type) {
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case float64:
		return v, true
	default:
		return 0, false
	}
}

func showValue(value any) string {
	if text, ok := value.(string); ok {
		return fmt.Sprintf("%q", text)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
