package restapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/election"
)

// A voter asks its leader several times a second whether it is there. The answer bears a stamp, and
// the voter's next question brings it back together with the time that the round trip took. So the
// leader learns, on its own clock, when the question was asked that this voter last heard an answer
// to; it can then say that it is the leader only while its voters can not have lost it (safety review,
// hole 12). A question that was long on its way makes that moment older, never younger.

// Bounds of a pulse. What lies outside is answered, but counts for nothing.
const (
	maxPulseQuery = 1 << 10
	maxPulseName  = 255
	maxPulseTrip  = time.Minute
)

// PulsePath is where pulses are asked for, with the parameters of PulseQuery.
const PulsePath = "/pgha/pulse"

// PulseQuery is what a voter says in a question.
type PulseQuery struct {
	From string // the member that asks
	// Revision of the leader key that it asks the holder of.
	Revision int64
	// Echo is the stamp of the last answer, and Trip how long the question and that answer took. A zero
	// Echo: no answer yet.
	Echo, Trip election.Instant
}

// Encode writes the parameters of a request.
func (q PulseQuery) Encode() string {
	b := make([]byte, 0, 128)
	b = append(b, "from="...)
	b = append(b, url.QueryEscape(q.From)...)
	b = strconv.AppendInt(append(b, "&for="...), q.Revision, 10)
	if q.Echo > 0 {
		b = strconv.AppendInt(append(b, "&echo="...), int64(q.Echo), 10)
		b = strconv.AppendInt(append(b, "&trip="...), int64(q.Trip), 10)
	}
	return string(b)
}

// parsePulseQuery reads it back without url.Values, which would be most of the work of an answer.
func parsePulseQuery(raw string) (q PulseQuery, ok bool) {
	if len(raw) > maxPulseQuery {
		return q, false
	}
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			ok = false
		}
		return n
	}
	ok = true
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "from":
			from, err := url.QueryUnescape(value)
			q.From, ok = from, ok && err == nil
		case "for":
			q.Revision = number(value)
		case "echo":
			q.Echo = election.Instant(number(value))
		case "trip":
			q.Trip = election.Instant(number(value))
		}
	}
	return q, ok
}

// heard is the moment that the question was asked to which the voter last heard the answer. Anybody
// can send this, so it is held against the clock.
func (q PulseQuery) heard(now election.Instant) (election.Instant, bool) {
	heard := q.Echo - q.Trip
	ok := q.From != "" && len(q.From) <= maxPulseName && q.Revision > 0 &&
		q.Echo > 0 && q.Echo <= now && q.Trip >= 0 && q.Trip <= maxPulseTrip && heard > 0
	return heard, ok
}

// getPulse answers a voter. Like a health check it takes no lock, asks nobody and needs no
// credentials, and it is asked more often than one.
func (s *Server) getPulse(w http.ResponseWriter, r *http.Request) {
	until := s.node.LeaderUntil()
	now := s.node.Now()
	if s.pulses != nil {
		if q, ok := parsePulseQuery(r.URL.RawQuery); ok {
			if heard, ok := q.heard(now); ok {
				s.pulses.Pulse(q.From, q.Revision, heard)
			}
		}
	}
	buffer, ok := s.buffers.Get().(*[]byte)
	if !ok {
		buffer = new([]byte)
	}
	defer s.buffers.Put(buffer)
	body := appendPulse((*buffer)[:0], s.node.State(), now, now < until)
	*buffer = body
	s.setHeaders(w)
	w.Header()["Content-Type"] = s.jsonType
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // an error in sending means that the client is gone
}

// appendPulse writes the body: the stamp, which reign this agent has a title to, and what it knows.
func appendPulse(b []byte, st *State, now election.Instant, leader bool) []byte {
	b = strconv.AppendInt(append(b, `{"at":`...), int64(now), 10)
	b = strconv.AppendInt(append(b, `,"revision":`...), st.LeaderRevision, 10)
	b = strconv.AppendUint(append(b, `,"epoch":`...), st.Epoch, 10)
	b = strconv.AppendQuoteToASCII(append(b, `,"role":`...), st.Server.Role)
	b = strconv.AppendBool(append(b, `,"leader":`...), leader)
	if st.LostLeader != 0 {
		b = strconv.AppendInt(append(b, `,"lost":`...), st.LostLeader, 10)
	}
	return append(b, '}')
}
