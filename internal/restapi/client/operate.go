package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/pgha/pgha/internal/restapi"
)

// Health asks one health check, such as "/primary" or "/replica?lag=1MB".
func (c *Client) Health(ctx context.Context, apiURL, check string) (bool, error) {
	a, err := c.Do(ctx, http.MethodGet, apiURL, check, nil)
	return a.Code == http.StatusOK, err
}

// Cluster reads GET /cluster.
func (c *Client) Cluster(ctx context.Context, apiURL string) (restapi.ClusterDocument, error) {
	var doc restapi.ClusterDocument
	err := c.read(ctx, apiURL, "/cluster", &doc)
	return doc, err
}

// Config reads GET /config.
func (c *Client) Config(ctx context.Context, apiURL string) (json.RawMessage, error) {
	var doc json.RawMessage
	err := c.read(ctx, apiURL, "/config", &doc)
	return doc, err
}

// History reads GET /history: rows of 3 to 5 items (row D-70).
func (c *Client) History(ctx context.Context, apiURL string) ([][]json.RawMessage, error) {
	var rows [][]json.RawMessage
	err := c.read(ctx, apiURL, "/history", &rows)
	return rows, err
}

// Why reads GET /pgha/why; last zero means all that the agent remembers.
func (c *Client) Why(ctx context.Context, apiURL string, last int) (restapi.WhyDocument, error) {
	path := "/pgha/why"
	if last > 0 {
		path += "?last=" + strconv.Itoa(last)
	}
	var doc restapi.WhyDocument
	err := c.read(ctx, apiURL, path, &doc)
	return doc, err
}

// Status reads GET /pgha/status.
func (c *Client) Status(ctx context.Context, apiURL string) (json.RawMessage, error) {
	var doc json.RawMessage
	err := c.read(ctx, apiURL, "/pgha/status", &doc)
	return doc, err
}

func (c *Client) read(ctx context.Context, apiURL, path string, into any) error {
	a, err := c.Do(ctx, http.MethodGet, apiURL, path, nil)
	if err != nil {
		return err
	}
	if err := a.Err(); err != nil {
		return err
	}
	if err := json.Unmarshal(a.Body, into); err != nil {
		return &Error{URL: a.URL, Kind: KindBadAnswer, Text: "the answer is not the JSON that was asked for", Err: err}
	}
	return nil
}

// PatchConfig merges patch into the dynamic configuration; null deletes a key.
func (c *Client) PatchConfig(ctx context.Context, apiURL string, patch any) (Answer, error) {
	return c.Do(ctx, http.MethodPatch, apiURL, "/config", patch)
}

// PutConfig replaces the dynamic configuration.
func (c *Client) PutConfig(ctx context.Context, apiURL string, doc any) (Answer, error) {
	return c.Do(ctx, http.MethodPut, apiURL, "/config", doc)
}

// Switchover is the body of POST /switchover and /failover. ScheduledAt empty means now.
type Switchover struct {
	Leader      string `json:"leader,omitempty"`
	Candidate   string `json:"candidate,omitempty"`
	ScheduledAt string `json:"scheduled_at,omitempty"`
}

// Switchover asks for a planned change of the leader. It returns when the outcome is known, so ctx
// needs a deadline of a minute or more.
func (c *Client) Switchover(ctx context.Context, apiURL string, req Switchover) (Answer, error) {
	return c.Do(ctx, http.MethodPost, apiURL, "/switchover", req)
}

// Failover asks for a change to a named candidate, whether there is a leader or not.
func (c *Client) Failover(ctx context.Context, apiURL string, req Switchover) (Answer, error) {
	return c.Do(ctx, http.MethodPost, apiURL, "/failover", req)
}

// CancelSwitchover drops a scheduled switchover.
func (c *Client) CancelSwitchover(ctx context.Context, apiURL string) (Answer, error) {
	return c.Do(ctx, http.MethodDelete, apiURL, "/switchover", nil)
}

// Restart is the body of POST /restart. Empty fields are not sent.
type Restart struct {
	Schedule        string `json:"schedule,omitempty"`
	Role            string `json:"role,omitempty"`
	PostgresVersion string `json:"postgres_version,omitempty"`
	Timeout         string `json:"timeout,omitempty"`
	RestartPending  bool   `json:"restart_pending,omitempty"`
}

// Restart restarts the member's PostgreSQL, or schedules that. It returns when that is done.
func (c *Client) Restart(ctx context.Context, apiURL string, req Restart) (Answer, error) {
	return c.Do(ctx, http.MethodPost, apiURL, "/restart", req)
}

// CancelRestart drops a scheduled restart.
func (c *Client) CancelRestart(ctx context.Context, apiURL string) (Answer, error) {
	return c.Do(ctx, http.MethodDelete, apiURL, "/restart", nil)
}

// Reload asks the agent to read its configuration again.
func (c *Client) Reload(ctx context.Context, apiURL string) (Answer, error) {
	return c.Do(ctx, http.MethodPost, apiURL, "/reload", struct{}{})
}

// Reinitialize asks for a new clone of the member.
func (c *Client) Reinitialize(ctx context.Context, apiURL string, force, fromLeader bool) (Answer, error) {
	return c.Do(ctx, http.MethodPost, apiURL, "/reinitialize", struct {
		Force      bool `json:"force,omitempty"`
		FromLeader bool `json:"from_leader,omitempty"`
	}{force, fromLeader})
}

// WaitState asks the member again and again, every interval, until done says so about its answer
// (or about its silence) or ctx ends. The last answer is returned.
func (c *Client) WaitState(ctx context.Context, apiURL string, interval time.Duration, done func(PeerStatus, error) bool) (PeerStatus, error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		p, err := c.Peer(ctx, apiURL)
		if done(p, err) {
			return p, nil
		}
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-tick.C:
		}
	}
}
