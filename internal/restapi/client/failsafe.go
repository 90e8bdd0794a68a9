package client

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pgha/pgha/internal/election"
	"github.com/pgha/pgha/internal/restapi"
)

// FailsafeCall is what a primary tells its peers when it can not reach the consensus store.
type FailsafeCall struct {
	Name    string `json:"name"`
	ConnURL string `json:"conn_url"`
	APIURL  string `json:"api_url"`
	// Slots are positions by slot name. They are sent even when there are none, as a Patroni does.
	Slots map[string]election.LSN `json:"slots"`
	// Extra is pgha's part; a Patroni ignores it.
	Extra restapi.FailsafeExtra `json:"pgha"`
}

// FailsafeAnswer is what came of one call. Anything but Accepted is a refusal.
type FailsafeAnswer struct {
	Target
	Accepted bool
	LSN      election.LSN // the member's own position; zero if it did not say
	Text     string       // its words when it refused
	Err      error        // when it did not answer
}

// Failsafe asks one member. A call that got no answer is repeated once while time is left
// (row R-110).
func (c *Client) Failsafe(ctx context.Context, t Target, call FailsafeCall) FailsafeAnswer {
	answer := FailsafeAnswer{Target: t}
	if call.Slots == nil {
		call.Slots = map[string]election.LSN{}
	}
	for range 2 {
		a, err := c.Do(ctx, http.MethodPost, t.APIURL, "/failsafe", call)
		answer.Err = err
		if err == nil {
			answer.Text = a.Text
			answer.Accepted = a.Code == http.StatusOK && string(a.Body) == "Accepted"
			if lsn, err := strconv.ParseUint(a.Header.Get("lsn"), 10, 64); err == nil {
				answer.LSN = election.LSN(lsn)
			}
			return answer
		}
		if ctx.Err() != nil {
			break
		}
	}
	return answer
}

// FailsafeAll asks all targets at the same time, each for at most timeout, and answers in the
// order of targets. It returns as soon as all have answered.
func (c *Client) FailsafeAll(ctx context.Context, targets []Target, call FailsafeCall, timeout time.Duration) []FailsafeAnswer {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answers := make([]FailsafeAnswer, len(targets))
	var asked sync.WaitGroup
	for i, t := range targets {
		asked.Go(func() { answers[i] = c.Failsafe(ctx, t, call) })
	}
	asked.Wait()
	return answers
}

// CaughtUp waits until the member has received the log up to lsn, at most for wait, and returns
// its position either way. The member answers at once when the position is reached.
func (c *Client) CaughtUp(ctx context.Context, apiURL string, lsn election.LSN, wait time.Duration) (received election.LSN, ok bool, err error) {
	path := "/pgha/caught-up?lsn=" + strconv.FormatUint(uint64(lsn), 10) +
		"&wait=" + strconv.FormatInt(max(0, wait.Milliseconds()), 10)
	// The answer needs its way back, too.
	ctx, cancel := context.WithTimeout(ctx, wait+c.opts.Timeout)
	defer cancel()
	a, err := c.Do(ctx, http.MethodGet, apiURL, path, nil)
	if err != nil {
		return 0, false, err
	}
	if err := a.Err(); err != nil {
		return 0, false, err
	}
	o, ok := parseObject(a.Body)
	if !ok {
		return 0, false, &Error{URL: a.URL, Kind: KindBadAnswer, Text: "the answer is not a JSON object"}
	}
	return get[election.LSN](o, "received_location"), a.Code == http.StatusOK && get[bool](o, "caught_up"), nil
}
