package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// actionResult is what came of a request to one member (documented output).
type actionResult struct {
	Member  string `json:"member"`
	Action  string `json:"action"`
	OK      bool   `json:"ok"`
	Status  int    `json:"status,omitempty"` // HTTP status, zero if there was no answer
	Message string `json:"message"`
}

// results collects what came of one command, printing each line as it becomes known.
type results struct {
	app  *app
	rows []actionResult
}

func (r *results) add(row actionResult) {
	r.rows = append(r.rows, row)
	if r.app.out.structured() {
		return
	}
	word := "Success"
	if !row.OK {
		word = "Failed"
	}
	fmt.Fprintf(r.app.env.stdout, "%s: %s\n", word, row.Message)
}

// finish writes the structured form and turns failures into the command's error.
func (r *results) finish(action string) error {
	if r.app.out.structured() {
		rows := r.rows
		if rows == nil {
			rows = []actionResult{}
		}
		if err := encode(r.app.env.stdout, r.app.out.format, struct {
			Results []actionResult `json:"results"`
		}{rows}); err != nil {
			return err
		}
	}
	var failed []string
	for _, row := range r.rows {
		if !row.OK {
			failed = append(failed, row.Member)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return withHint(fmt.Errorf("%s failed on %s", action, strings.Join(failed, ", ")), "see what they say: pghactl why %s", strings.Join(failed, " "))
}

// resultOf turns an agent's answer into a row. ok lists the statuses that mean success.
func resultOf(m member, action string, rep reply, err error, success string, ok ...int) actionResult {
	row := actionResult{Member: m.Name, Action: action, Status: rep.Code}
	if err != nil {
		row.Message = fmt.Sprintf("%s of member %s: %s", action, m.Name, err)
		return row
	}
	if slices.Contains(ok, rep.Code) {
		row.OK, row.Message = true, success
		return row
	}
	row.Message = fmt.Sprintf("%s of member %s: status %d: %s%s", action, m.Name, rep.Code, rep.Text, authHint(rep.Code))
	return row
}

// authHint says where credentials come from when an agent wants some.
func authHint(code int) string {
	switch code {
	case http.StatusUnauthorized:
		return " (set ctl.authentication or restapi.authentication in the configuration file)"
	case http.StatusForbidden:
		return " (this machine or its certificate is not allowed: see restapi.allowlist and ctl.certfile)"
	default:
		return ""
	}
}
