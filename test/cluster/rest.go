package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// Answer of a REST request.
type Answer struct {
	Code int
	Body string
}

// HTTP sends a request to the member's REST server. Body is sent as JSON unless nil.
func (m *Member) HTTP(ctx context.Context, method, path string, body any) (Answer, error) {
	var payload io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
		}
		payload = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+m.API()+path, payload)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: m.c.Dial, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end below
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return Answer{response.StatusCode, string(text)}, nil
}

// Code is the status of a GET, 0 if nothing answered within half a second.
func (m *Member) Code(ctx context.Context, path string) int {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	answer, err := m.HTTP(ctx, http.MethodGet, path, nil)
	if err != nil {
		return 0
	}
	return answer.Code
}

// Status is the part of GET /patroni that tests look at.
type Status struct {
	State            string `json:"state"`
	Role             string `json:"role"`
	Timeline         int    `json:"timeline"`
	ReplicationState string `json:"replication_state"`
	ClusterUnlocked  bool   `json:"cluster_unlocked"`
	Pause            bool   `json:"pause"`
	PendingRestart   bool   `json:"pending_restart"`
	SystemID         string `json:"database_system_identifier"`
	SyncStandby      bool   `json:"sync_standby"`
	QuorumStandby    bool   `json:"quorum_standby"`
}

// Status asks GET /patroni.
func (m *Member) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := m.HTTP(ctx, http.MethodGet, "/patroni", nil)
	if err != nil {
		return Status{}, err
	}
	var s Status
	if err := json.Unmarshal([]byte(answer.Body), &s); err != nil {
		return Status{}, fmt.Errorf("status of %s: %w: %.200s", m.Name, err, answer.Body)
	}
	return s, nil
}

// Why is the body of GET /pgha/why, or the error as text: it is for people.
func (m *Member) Why(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answer, err := m.HTTP(ctx, http.MethodGet, "/pgha/why", nil)
	if err != nil {
		return "no answer: " + err.Error()
	}
	return answer.Body
}

// ListedMember is a row of GET /cluster.
type ListedMember struct {
	Name     string `json:"name"`
	Role     string `json:"role"`
	State    string `json:"state"`
	Timeline int    `json:"timeline"`
	Lag      any    `json:"lag"`
}

// List asks GET /cluster of the first member that answers.
func (c *Cluster) List(ctx context.Context) ([]ListedMember, error) {
	var last error
	for _, m := range c.Members {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		answer, err := m.HTTP(ctx, http.MethodGet, "/cluster", nil)
		cancel()
		if err != nil {
			last = err
			continue
		}
		var body struct {
			Members []ListedMember `json:"members"`
		}
		if err := json.Unmarshal([]byte(answer.Body), &body); err != nil {
			last = fmt.Errorf("list: %w: %.200s", err, answer.Body)
			continue
		}
		return body.Members, nil
	}
	return nil, fmt.Errorf("list: no member answered: %w", last)
}

// DSN of one server, as the superuser.
func (m *Member) DSN() string {
	return fmt.Sprintf("postgres://%s:%s@%s/postgres?sslmode=disable", superuser, superuserPassword, m.PG())
}

// connect opens a client session; dsn may name several hosts.
func (c *Cluster) connect(ctx context.Context, dsn string, timeout time.Duration, tune func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	config.ConnectTimeout = timeout
	config.DialFunc = c.Dial
	if tune != nil {
		tune(config)
	}
	return pgx.ConnectConfig(ctx, config)
}

// SQL runs one statement on the member's server in a session of its own and returns the first
// column of the first row as text, empty if there is none.
func (m *Member) SQL(ctx context.Context, statement string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := m.c.connect(ctx, m.DSN(), time.Second, nil)
	if err != nil {
		return "", fmt.Errorf("sql on %s: %w", m.Name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // a session lost here loses nothing
	results, err := conn.PgConn().Exec(ctx, statement).ReadAll()
	if err != nil {
		return "", fmt.Errorf("sql on %s: %w", m.Name, err)
	}
	if n := len(results); n > 0 && len(results[n-1].Rows) > 0 && len(results[n-1].Rows[0]) > 0 {
		return string(results[n-1].Rows[0][0]), nil
	}
	return "", nil
}

// LocalCode is Code as seen from the member's own machine, whatever the network does.
func (m *Member) LocalCode(ctx context.Context, path string) int {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.API()+path, nil)
	if err != nil {
		return 0
	}
	client := http.Client{Transport: &http.Transport{DialContext: m.localDial, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close() // the status line is all that is wanted
	return response.StatusCode
}

func (m *Member) localDial(ctx context.Context, network, address string) (net.Conn, error) {
	if m.host == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return m.host.ns.dial(ctx, network, address)
}
